"""What is measured on validation subjects while a run trains, by the system's capabilities.

Recognition: accuracy, macro_recall. Synthesis: reconstruction (mean absolute error of a face given
its own expression, in [0, 1]; lower is better); edit_accuracy, the share of edited faces that an
independent judge, trained on the training subjects, reads as the target; kernel_distance (KID) of
edits from real faces, in that judge's features; and with `evaluation.identity` identity_similarity,
the mean cosine of an edit with its source, as a second judge sees them. Identity: verification_auc.
Attributes: attribute_accuracy, the mean over attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data_service.lakes.lake import Lake
from trainer.feed import TrainingData
from trainer.nets.identity_source import verification_auc
from trainer.scorecard.attribute_scores import attribute_card
from trainer.scorecard.distances import Sample, kernel_distance
from trainer.scorecard.evaluate import (
    Predictions,
    evaluating,
    evaluation_batch,
    labels_of,
    predict_rows,
    scorecard,
    subjects_of,
)
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.judge import Judge, expression_judge, identity_judge
from trainer.system import FaceBatch, SystemSpec
from trainer.training import Training
from trainer.world import World

METRICS = (
    *("accuracy", "macro_recall", "reconstruction", "edit_accuracy"),
    *("kernel_distance", "identity_similarity", "verification_auc", "attribute_accuracy"),
)
_EDITED_FACES = 64


def validation_predictions(
    training: Training, spec: SystemSpec, data: TrainingData, lake: Lake, world: World
) -> Predictions | None:
    """What the system says of the validation subjects; None where there is nothing to say.

    Every rank must call.
    """
    rows_N = np.asarray(data.fold.validation_rows)
    if "recognise" not in spec.capabilities or not len(rows_N):
        return None
    return predict_rows(training.system, lake, rows_N, training.run, data.info, world)


def validation_metrics(
    training: Training,
    spec: SystemSpec,
    data: TrainingData,
    lake: Lake,
    world: World,
    predictions: Predictions | None,
) -> dict[str, float]:
    """The metrics of the validation subjects by name; every rank must call, all get the same."""
    found: dict[str, float] = {}
    if predictions is not None:
        card = scorecard(predictions, data.info.classes, num_resamples=1)
        found["accuracy"] = card["accuracy"]["value"]
        found["macro_recall"] = card["macro_recall"]["value"]
    if world.leads and "synthesise" in spec.capabilities:
        found |= _synthesis(training, data, lake)
    if world.leads and "identify" in spec.capabilities:
        found |= _identification(training, data, lake)
    if world.leads and "attributes" in spec.capabilities and len(data.fold.validation_rows):
        card = attribute_card(_examinee(training, spec, data, lake))
        if card is not None:
            found["attribute_accuracy"] = card["accuracy"]["value"]
    return world.broadcast_object(found)


def _examinee(training: Training, spec: SystemSpec, data: TrainingData, lake: Lake) -> Examinee:
    """The system as it stands, with the validation subjects."""
    return Examinee(
        system=training.system,
        spec=spec,
        run=training.run,
        info=data.info,
        lake=lake,
        rows_N=np.asarray(data.fold.validation_rows),
        home_lake=lake,
        train_rows_N=np.asarray(data.fold.train_rows),
        device=training.world.device,
    )


def _spread(rows_N: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly spread."""
    return rows_N[np.linspace(0, len(rows_N) - 1, min(count, len(rows_N))).astype(int)]


def _batch(training: Training, data: TrainingData, lake: Lake, rows_N: np.ndarray) -> FaceBatch:
    labels_N = labels_of(lake, rows_N, data.info)
    batch = evaluation_batch(lake, rows_N, labels_N, training.run, data.info)
    return batch.to(training.world.device)


@torch.no_grad()
def _synthesis(training: Training, data: TrainingData, lake: Lake) -> dict[str, float]:
    rows_N = _spread(np.asarray(data.fold.validation_rows), _EDITED_FACES)
    if not len(rows_N):
        return {}
    batch = _batch(training, data, lake, rows_N)
    with evaluating(training.system):
        own_BCHW = training.system.predict(batch).images_BCHW
        assert own_BCHW is not None
        edits = list(_edits(training, batch, len(data.info.classes)))
    error = (own_BCHW.clamp(-1, 1) - batch.faces_BCHW).abs().mean() / 2
    train, seed = (lake, data.fold.train_rows, training.run, data.info), training.run.seed + 1
    reader = expression_judge(*train, seed=seed)
    found = {"reconstruction": float(error), **_as_read(reader, lake, rows_N, batch, edits)}
    if training.run.evaluation.identity:
        teller = identity_judge(*train, seed=seed)
        found |= {} if teller is None else _as_known(teller, batch, edits)
    return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Edits:
    """Edits [B, C, H, W] of the faces in the places `source_B` towards one class."""

    target: int
    source_B: Tensor
    images_BCHW: Tensor


def _edits(training: Training, batch: FaceBatch, num_classes: int) -> Iterator[_Edits]:
    """Every face towards every class but its own."""
    for target in range(num_classes):
        keep_B = batch.expression_B != target
        if not bool(keep_B.any()):
            continue
        part = batch.map(lambda tensor, keep_B=keep_B: tensor[keep_B])
        aim_B = torch.full_like(part.target_expression_B, target)
        edited = training.system.predict(replace(part, target_expression_B=aim_B)).images_BCHW
        assert edited is not None
        source_B = keep_B.nonzero().flatten().cpu()
        yield _Edits(target=target, source_B=source_B, images_BCHW=edited.float().cpu())


def _as_read(
    reader: Judge, lake: Lake, rows_N: np.ndarray, batch: FaceBatch, edits: Sequence[_Edits]
) -> dict[str, float]:
    features = [reader.features(one.images_BCHW) for one in edits]
    aims = zip(features, edits, strict=True)
    read = sum(int((reader.head(seen).argmax(1) == one.target).sum()) for seen, one in aims)
    asked = sum(len(one.source_B) for one in edits)
    found = {"edit_accuracy": read / max(asked, 1)}
    if not asked:
        return found
    subjects_N = subjects_of(lake, rows_N)
    source_M = torch.cat([one.source_B for one in edits]).numpy()
    real = Sample(
        features_ND=reader.features(batch.faces_BCHW.cpu()).numpy(), subjects_N=subjects_N
    )
    made = Sample(features_ND=torch.cat(features).numpy(), subjects_N=subjects_N[source_M])
    distance = kernel_distance(real, made)
    return found if distance is None else {**found, "kernel_distance": distance.value}


def _as_known(teller: Judge, batch: FaceBatch, edits: Sequence[_Edits]) -> dict[str, float]:
    real_BD = teller.embed(batch.faces_BCHW.cpu())
    cosines = [(teller.embed(one.images_BCHW) * real_BD[one.source_B]).sum(1) for one in edits]
    return {"identity_similarity": float(torch.cat(cosines).mean())} if cosines else {}


@torch.no_grad()
def _identification(training: Training, data: TrainingData, lake: Lake) -> dict[str, float]:
    rows_N = _spread(np.asarray(data.fold.validation_rows), 512)
    if not len(rows_N):
        return {}
    with evaluating(training.system):
        features = [
            training.system.predict(_batch(training, data, lake, part)).features_BD
            for part in np.array_split(rows_N, max(len(rows_N) // 64, 1))
        ]
    features_ND = torch.cat([part for part in features if part is not None]).float().cpu().numpy()
    subjects_N = subjects_of(lake, rows_N)
    return {"verification_auc": verification_auc(features_ND, subjects_N, training.run.seed)}
