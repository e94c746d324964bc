"""How good the faces are that a system makes, as independent judges see them.

The judges (trainer/scorecard/judge.py) are trained on the training subjects alone and judge faces
of subjects that neither they nor the system have seen. Distances are taken in the features of the
expression judge, diversity in those of the identity judge, so they compare systems on one lake and
fold, and nothing else.

Shapes: N faces, M edits, B faces of a batch, K classes, D features, L levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from data_service.schema import Expression, FaceBatch
from trainer.scorecard import distances, statistics
from trainer.scorecard.distances import Sample
from trainer.scorecard.evaluate import evaluating
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.intervals import share_by_subject
from trainer.scorecard.judge import JUDGE_IMAGES, Judge, expression_judge, identity_judge

LEVELS = np.linspace(0.0, 1.0, 5)
_RISING_FACES = 16
_KERNEL_FACES = 2000
_Interval = statistics.Interval | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """Faces as the judges see them: class read, confidence in it, features of both judges.

    `source_M` is the place among the faces under test that each was made from (real: its own),
    `target_M` the class that was asked for (real: its own).
    """

    source_M: np.ndarray
    target_M: np.ndarray
    read_M: np.ndarray
    features_MD: np.ndarray
    identity_MD: np.ndarray | None


@torch.no_grad()
def synthesis_card(examinee: Examinee, num_faces: int) -> dict[str, Any]:
    """The figures of synthesis on at most `num_faces` faces under test; plain JSON values.

    Each face gets every class but its own. `judge_accuracy` is what the judge reads of the real
    faces, `identity_rank_1_real` what retrieval finds of them: no system can be asked for more.
    None where a figure does not apply: no intensity, or subjects without names.
    """
    seed = examinee.run.seed + 1
    train = (examinee.home_lake, examinee.train_rows_N, examinee.run, examinee.info)
    reader = expression_judge(*train, seed=seed).to(examinee.device)
    teller = identity_judge(*train, seed=seed)
    teller = None if teller is None else teller.to(examinee.device)
    rows_N = examinee.spread(num_faces)
    subjects_N = examinee.subjects(rows_N)
    with evaluating(examinee.system):
        real, made, error_N = _judged(examinee, rows_N, reader, teller)
        rank_N = _rising(examinee, reader)
    figures = _figures(examinee, subjects_N, real, made, seed)
    figures["reconstruction_error"] = statistics.mean_by_subject(error_N, subjects_N, seed=seed)
    figures["intensity_correlation"] = rank_N and statistics.mean_by_subject(*rank_N, seed=seed)
    return {
        **{name: None if one is None else asdict(one) for name, one in figures.items()},
        "num_faces": len(rows_N),
        "num_edits": len(made.source_M),
        "num_subjects": len(np.unique(subjects_N)),
        "feature_space": f"{reader.head.in_features} features of the expression judge "
        f"(small CNN, {JUDGE_IMAGES} images of the training subjects, seed {seed})",
    }


def _judged(
    examinee: Examinee, rows_N: np.ndarray, reader: Judge, teller: Judge | None
) -> tuple[Judged, Judged, np.ndarray]:
    """The real faces, their edits, and the error of each face given its own expression."""
    real, made, errors = [], [], []
    start = 0
    for batch in examinee.batches(rows_N):
        place_B = torch.arange(start, start + len(batch))
        start += len(batch)
        real.append(_judge(batch.faces_BCHW, place_B, batch.expression_B, reader, teller))
        own_BCHW = _images(examinee, batch)
        errors.append((own_BCHW - batch.faces_BCHW).abs().mean((1, 2, 3)).cpu() / 2)
        for target in range(len(examinee.info.classes)):
            keep_B = batch.expression_B != target
            if bool(keep_B.any()):
                part = aimed(batch.map(lambda tensor, keep_B=keep_B: tensor[keep_B]), target)
                place = place_B[keep_B.cpu()]
                edited_BCHW = _images(examinee, part)
                made.append(_judge(edited_BCHW, place, part.target_expression_B, reader, teller))
    return _joined(real), _joined(made), torch.cat(errors).numpy()


def aimed(batch: FaceBatch, target: int, level: float | None = None) -> FaceBatch:
    """The batch asking for class `target`, at intensity `level` in [0, 1] where one is given."""
    aim_B = torch.full_like(batch.target_expression_B, target)
    level_B = None if level is None else torch.full(aim_B.shape, level, device=aim_B.device)
    return replace(batch, target_expression_B=aim_B, target_intensity_B=level_B)


def _images(examinee: Examinee, batch: FaceBatch) -> Tensor:
    images_BCHW = examinee.system.predict(batch).images_BCHW
    assert images_BCHW is not None, "only systems that synthesise have a card of synthesis"
    return images_BCHW.float().clamp(-1, 1)


def _judge(
    faces_BCHW: Tensor, source_B: Tensor, target_B: Tensor, reader: Judge, teller: Judge | None
) -> Judged:
    features_BD = reader.features(faces_BCHW)
    return Judged(
        source_M=source_B.numpy(),
        target_M=target_B.cpu().numpy(),
        read_M=reader.head(features_BD).argmax(1).cpu().numpy(),
        features_MD=features_BD.cpu().numpy(),
        identity_MD=None if teller is None else teller.embed(faces_BCHW).cpu().numpy(),
    )


def _joined(parts: list[Judged]) -> Judged:
    fields: dict[str, Any] = {}
    for name in Judged.__dataclass_fields__:
        values = [getattr(part, name) for part in parts]
        fields[name] = None if values[0] is None else np.concatenate(values)
    return Judged(**fields)


def _figures(
    examinee: Examinee, subjects_N: np.ndarray, real: Judged, made: Judged, seed: int
) -> dict[str, _Interval]:
    subjects_M = subjects_N[made.source_M]
    right = (real.read_M == real.target_M, made.read_M == made.target_M)
    thin = slice(None, None, max(1, -(-len(made.source_M) // _KERNEL_FACES)))
    real_sample = Sample(features_ND=real.features_MD, subjects_N=subjects_N)
    made_sample = Sample(features_ND=made.features_MD, subjects_N=subjects_M)
    thinned = Sample(features_ND=made.features_MD[thin], subjects_N=subjects_M[thin])
    return {
        "edit_accuracy": share_by_subject(right[1], subjects_M),
        "judge_accuracy": share_by_subject(right[0], subjects_N),
        "frechet_distance": distances.frechet_distance(real_sample, made_sample, seed=seed),
        "kernel_distance": distances.kernel_distance(real_sample, thinned, seed=seed),
        **_identity(subjects_N, real, made, seed),
    }


def _identity(
    subjects_N: np.ndarray, real: Judged, made: Judged, seed: int
) -> dict[str, _Interval]:
    """Similarity to the source, how often the nearest of all subjects is the source's own, and
    whether the subjects stay as different from each other as they are.

    A subject is known by the mean of its other real faces under test.
    """
    names = ("identity_similarity", "identity_rank_1", "identity_rank_1_real", "diversity")
    if real.identity_MD is None or made.identity_MD is None:
        return dict.fromkeys(names)
    every = np.arange(len(subjects_N))
    similarity_M = (made.identity_MD * real.identity_MD[made.source_M]).sum(axis=1)
    found_M = rank_1(made.identity_MD, made.source_M, real.identity_MD, subjects_N)
    found_N = rank_1(real.identity_MD, every, real.identity_MD, subjects_N)
    subjects_M = subjects_N[made.source_M]
    spread = distances.relative_spread(
        Sample(features_ND=real.identity_MD, subjects_N=subjects_N),
        real.target_M,
        Sample(features_ND=made.identity_MD, subjects_N=subjects_M),
        made.target_M,
        seed=seed,
    )
    figures = (
        statistics.mean_by_subject(similarity_M, subjects_M, seed=seed),
        share_by_subject(found_M, subjects_M),
        share_by_subject(found_N, subjects_N),
        spread,
    )
    return dict(zip(names, figures, strict=True))


def rank_1(
    asked_MD: np.ndarray, source_M: np.ndarray, known_ND: np.ndarray, subjects_N: np.ndarray
) -> np.ndarray:
    """1 or 0 of each asked face; NaN where its subject has no other face, or is alone."""
    names_S, subject_N = np.unique(subjects_N, return_inverse=True)
    sums_SD = statistics.sums_by_subject(known_ND, subjects_N)
    count_S = np.bincount(subject_N)
    own_M = subject_N[source_M]
    cosine_MS = asked_MD @ (sums_SD / np.linalg.norm(sums_SD, axis=1, keepdims=True)).T
    rest_MD = sums_SD[own_M] - known_ND[source_M]
    length_M = np.linalg.norm(rest_MD, axis=1)
    rest_M = (asked_MD * rest_MD).sum(axis=1) / np.maximum(length_M, 1e-12)
    cosine_MS[np.arange(len(own_M)), own_M] = rest_M
    valid_M = (count_S[own_M] > 1) & (len(names_S) > 1)
    return np.where(valid_M, cosine_MS.argmax(axis=1) == own_M, np.nan)


def _rising(examinee: Examinee, reader: Judge) -> tuple[np.ndarray, np.ndarray] | None:
    """Spearman's correlation of the intensity asked with the judge's log-odds of the target, for
    each face and class, and the faces' subjects. A sweep in which nothing changes has 0."""
    if not examinee.can("intensity"):
        return None
    rows_N = examinee.spread(_RISING_FACES)
    values, subjects = [], []
    start = 0
    for batch in examinee.batches(rows_N):
        names_B = examinee.subjects(rows_N[start : start + len(batch)])
        start += len(batch)
        for target, seen_BL in _sweeps(examinee, batch, reader):
            away_B = (batch.expression_B != target).cpu().numpy()
            values.append(_spearman(seen_BL)[away_B])
            subjects.append(names_B[away_B])
    return np.concatenate(values), np.concatenate(subjects)


def _sweeps(
    examinee: Examinee, batch: FaceBatch, reader: Judge
) -> Iterator[tuple[int, np.ndarray]]:
    for target, name in enumerate(examinee.info.classes):
        if name == Expression.NEUTRAL:
            continue
        levels = [_images(examinee, aimed(batch, target, float(level))) for level in LEVELS]
        read = [_log_odds(reader(images_BCHW), target) for images_BCHW in levels]
        yield target, torch.stack(read, dim=1).cpu().numpy()


def _log_odds(logits_BK: Tensor, target: int) -> Tensor:
    """Of the target against all other classes, [B]; unlike a probability it does not saturate."""
    others = [index for index in range(logits_BK.shape[1]) if index != target]
    return logits_BK[:, target] - logits_BK[:, others].logsumexp(1)


def _spearman(seen_BL: np.ndarray) -> np.ndarray:
    """Of each row with rising levels; 0 where the row is constant."""
    rank_BL = rankdata(seen_BL, axis=1)
    rank_BL = rank_BL - rank_BL.mean(axis=1, keepdims=True)
    rise_L = np.arange(seen_BL.shape[1]) - (seen_BL.shape[1] - 1) / 2
    length_B = np.sqrt(np.square(rank_BL).sum(axis=1) * np.square(rise_L).sum())
    return np.divide(rank_BL @ rise_L, length_B, out=np.zeros(len(rank_BL)), where=length_B > 0)
