"""The gate of FES-DA: which synthetic faces a network may be trained with.

A face is admitted when it lies no further from face space than real faces do, a recogniser that
never saw its source subject reads the target expression with enough confidence, and the identity
network sees the same subject. A system without an identity network is judged by two that never saw
the subject either; those hold a face for its source's subject where real pairs of such likeness are
as often of one subject as of two. The pool itself looks after two more: that a face is no near copy
of another admitted one, and that its class' faces pass more often than by the recogniser's errors.

Shapes: B faces, N faces, P pairs, C channels, S side, K classes, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from data_service.folds import subject_keys
from data_service.lakes.lake import Lake
from data_service.synthesis.attempts import Attempts, one_thread
from trainer.config import PoolConfig, RunConfig
from trainer.feed import TrainingData
from trainer.scorecard.evaluate import faces_of, labels_of
from trainer.scorecard.judge import Judge, expression_judge, identity_judge
from trainer.synthetic.face_space import MOST_FACES, FaceSpace
from trainer.system import System

JUDGE_IMAGES = 12288
"""Images that each of the cross-fitted judges is trained on."""
CALIBRATION_FACES = 2000
"""Real faces whose likeness says what likeness is one subject's."""
BATCH_FACES = 256
MIN_PAIRS = 50
REASONS = ("no face", "expression", "identity")
"""Why a face is refused, in the order of the questions."""
_JUDGE_SEEDS = (11, 12)


class Embedding(Protocol):
    """A network that sees who is shown."""

    def embed(self, faces_BCHW: Tensor) -> Tensor:
        """Unit vectors B x D; the more alike two subjects, the larger the cosine."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SameSubject:
    """Sees one subject in two faces where the cosine of their embeddings is at least `least`."""

    network: nn.Module
    least: float

    def __call__(self, one_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
        """A boolean for each pair of faces, on the CPU."""
        one_BD, other_BD = (embedded(self.network, faces) for faces in (one_BCHW, other_BCHW))
        return (one_BD * other_BD).sum(1) >= self.least


def embedded(network: nn.Module, faces_BCHW: Tensor) -> Tensor:
    """Unit vectors B x D, on the CPU."""
    device = next(network.parameters()).device
    return network.embed(faces_BCHW.to(device)).cpu()  # type: ignore[operator]


@dataclass(kw_only=True, eq=False)
class CrossFittedGate:
    """The gate, as `data_service.synthesis.attempts.Admission`.

    `judges[h]`, `identities[h]` and `spaces[h]` were trained on the training subjects of the other
    half than `half_of_row` says; without `identities` nobody asks who is shown.
    """

    gate: float
    judges: tuple[Judge, Judge]
    half_of_row: np.ndarray
    spaces: tuple[FaceSpace, FaceSpace]
    chance: tuple[float, ...]
    identities: tuple[SameSubject, SameSubject] | None
    hash: str

    @classmethod
    def train(
        cls, run: RunConfig, system: System, data: TrainingData, lake: Lake, config: PoolConfig
    ) -> CrossFittedGate:
        """Judges, each of one half of the training subjects: trained, or read where kept."""
        rows_N = np.asarray(data.fold.train_rows)
        half_of_row = _halves(lake, rows_N)
        parts = [rows_N[half_of_row[rows_N] == half] for half in (0, 1)]
        first, second = (
            expression_judge(
                lake,
                parts[1 - half],
                run,
                data.info,
                seed=run.seed + _JUDGE_SEEDS[half],
                images=JUDGE_IMAGES,
            )
            for half in (0, 1)
        )
        own = system.frozen().get("identity")
        if own is not None:
            same = SameSubject(network=own, least=config.identity_gate)
            identities = (same, same)
        else:
            identities = _cross_fitted_identities(lake, parts, run, data)
        judges = (first, second)
        real = [_spread(part, CALIBRATION_FACES) for part in parts]
        space, other_space = (
            FaceSpace.fit(
                faces_of(lake, _spread(parts[1 - half], MOST_FACES), run),
                _batches(lake, real[half], run),
            )
            for half in (0, 1)
        )
        spaces = (space, other_space)
        shown = [
            (labels_of(lake, rows_N, data.info), _batches(lake, rows_N, run)) for rows_N in real
        ]
        return cls(
            gate=config.gate,
            judges=judges,
            half_of_row=half_of_row,
            spaces=spaces,
            chance=_chance(judges, shown, config.gate),
            identities=identities,
            hash=_named(config.gate, judges, spaces, identities),
        )

    @torch.no_grad()
    def __call__(self, attempts: Attempts) -> tuple[str, ...]:
        """Whether it is a face comes first, then confidence, then identity."""
        made, target_B = attempts.made_BCHW, attempts.target_expression_B
        half_B = torch.from_numpy(self.half_of_row[attempts.source_rows])
        every_B = torch.arange(len(made))
        share_BK = torch.stack([judge(made).softmax(1) for judge in self.judges])[half_B, every_B]
        sure_B = share_BK.gather(1, target_B.view(-1, 1)).squeeze(1) >= self.gate
        face_B = torch.stack([space(made) for space in self.spaces])[half_B, every_B]
        same_B = torch.ones_like(sure_B)
        if self.identities:
            seen_HB = [same(made, attempts.source_BCHW) for same in self.identities]
            same_B = torch.stack(seen_HB)[half_B, every_B]
        answers = zip(face_B.tolist(), sure_B.tolist(), same_B.tolist(), strict=True)
        return tuple(
            next((why for why, passed in zip(REASONS, answer, strict=True) if not passed), "")
            for answer in answers
        )


def _spread(rows_N: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, evenly spread."""
    return rows_N[:: -(-len(rows_N) // most)]


def _batches(lake: Lake, rows_N: np.ndarray, run: RunConfig) -> Iterator[Tensor]:
    """The faces of those rows as a judge sees them, a batch at a time."""
    for first in range(0, len(rows_N), BATCH_FACES):
        yield faces_of(lake, rows_N[first : first + BATCH_FACES], run)


@one_thread()
@torch.no_grad()
def _chance(
    judges: tuple[Judge, Judge], real: Sequence[tuple[np.ndarray, Iterable[Tensor]]], gate: float
) -> tuple[float, ...]:
    """For each class how often a real face of another one passes for it, by the rule of succession:
    not 0, for a few hundred faces cannot show that. Of a gate that is open nobody asks it.

    `real` has classes and batches of the faces that each judge never saw."""
    labels_N = torch.from_numpy(np.concatenate([labels for labels, _ in real]))
    share_NK = torch.cat(
        [
            judge(part).softmax(1)
            for judge, (_, batches) in zip(judges, real, strict=True)
            for part in batches
        ]
    )
    classes = range(share_NK.shape[1])
    passed = [share_NK[labels_N != klass, klass] >= gate for klass in classes]
    return tuple((int(one.sum()) + 1) / (len(one) + 2) if gate else 0.0 for one in passed)


def _named(
    gate: float,
    judges: tuple[Judge, Judge],
    spaces: tuple[FaceSpace, FaceSpace],
    identities: tuple[SameSubject, SameSubject] | None,
) -> str:
    """Names the gate by its networks and thresholds."""
    states = {f"judge {half}": judge.state_dict() for half, judge in enumerate(judges)}
    states |= {f"space {half}": space.state_dict() for half, space in enumerate(spaces)}
    for half, same in enumerate(identities or ()):
        states[f"identity {half}"] = same.network.state_dict()
    return f"{content_hash(states)}/{(gate, *(same.least for same in identities or ()))}"


def content_hash(states: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Names networks by their weights."""
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(states):
        for key, value in states[name].items():
            digest.update(f"{name}/{key}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _cross_fitted_identities(
    lake: Lake, parts: list[np.ndarray], run: RunConfig, data: TrainingData
) -> tuple[SameSubject, SameSubject] | None:
    """For each half a network of the other half's subjects; None where subjects are not known."""
    made = []
    for half in (0, 1):
        network = identity_judge(
            lake,
            parts[1 - half],
            run,
            data.info,
            seed=run.seed + _JUDGE_SEEDS[half],
            images=JUDGE_IMAGES,
        )
        least = None if network is None else _equal_error(network, lake, parts[half], run, data)
        if network is None or least is None:
            return None
        made.append(SameSubject(network=network, least=least))
    return made[0], made[1]


@one_thread()
@torch.no_grad()
def _equal_error(
    network: Judge, lake: Lake, rows_N: np.ndarray, run: RunConfig, data: TrainingData
) -> float | None:
    """The cosine at which as many pairs of one subject are missed as pairs of two are taken for
    one, among real pairs of different expressions; None where too few subjects have such pairs."""
    rows_N = _spread(rows_N, CALIBRATION_FACES)
    labels_N = labels_of(lake, rows_N, data.info)
    features_ND = torch.cat([embedded(network, part) for part in _batches(lake, rows_N, run)])
    cosine_NN = (features_ND @ features_ND.T).numpy()
    names = lake.table["subject"].take(rows_N).to_pylist()
    known_N = np.array([name is not None for name in names])
    _, subject_N = np.unique([name or "" for name in names], return_inverse=True)
    asked_NN = np.triu(known_N & known_N[:, None] & (labels_N != labels_N[:, None]), 1)
    one_NN = subject_N == subject_N[:, None]
    one_P, two_P = np.sort(cosine_NN[asked_NN & one_NN]), np.sort(cosine_NN[asked_NN & ~one_NN])
    if min(len(one_P), len(two_P)) < MIN_PAIRS:
        return None
    missed_P = np.arange(len(one_P)) / len(one_P)
    taken_P = 1 - np.searchsorted(two_P, one_P) / len(two_P)
    return float(one_P[np.argmin(np.abs(missed_P - taken_P))])


def _halves(lake: Lake, rows_N: np.ndarray) -> np.ndarray:
    """0 or 1 for every row of the lake: the half of its subject, or of its clip, alternating."""
    keys_N = subject_keys(lake.table)
    halves = {key: index % 2 for index, key in enumerate(np.unique(keys_N[rows_N]))}
    return np.array([halves.get(key, 0) for key in keys_N])
