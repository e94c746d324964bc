"""The planted problem with trainings in place of its formula: small, but of real losses.

A softmax net of one layer learns five classes from 80 numbers a face, of which half are hidden
where the gate is closed. Its loss has four terms: cross-entropy with the given labels, a third of
which are wrong (weight 1); the squared distance to a teacher of another corpus, whose classes lie
elsewhere by half as much again (`pixel`: too little fits what is wrong, too much is the teacher);
cross-entropy with shuffled labels (`harmful`); and a constant (`idle`). Adam takes 60 steps over
all training faces. What is searched is searched as in the formula; the faces are drawn anew for
each seed, and each of the five folds validates on its own.

The true recall of a setting is that of its nets after 8 more draws of faces, on 4,000 others each;
the best there is, that of a grid over `pixel` with the gate open and `harmful` 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import RunConfig
from trainer.overrides import with_overrides
from trainer.steps import Steps
from tuning.trial import Train

FEATURES, CLASSES, FACES, STEPS = 80, 5, 500, 60
APART, WRONG, PULL = 0.22, 1 / 3, 0.07
"""How far classes lie apart in each number, the share of wrong labels, what `pixel` 1 weighs."""
_HERE_KD, _THERE_KD = APART * np.random.default_rng(0).normal(size=(2, CLASSES, FEATURES))
TEACHER_DK = torch.from_numpy(_HERE_KD + 1.5 * _THERE_KD).float().T
DRAWS, TESTED = 8, 4000
VALIDATIONS = 4
PIXELS = tuple(np.geomspace(0.1, 10, 13).tolist())

Result = Callable[[str, dict[str, float]], Any]


@dataclass(frozen=True, slots=True)
class Faces:
    """What a net sees [N, D], the true classes [N], and the labels that it is given [N]."""

    seen_ND: Tensor
    true_N: Tensor
    given_N: Tensor

    def where(self, chosen_N: Tensor) -> Faces:
        """Some of them."""
        return Faces(self.seen_ND[chosen_N], self.true_N[chosen_N], self.given_N[chosen_N])


def drawn_faces(count: int, *seed: int) -> Faces:
    """Faces of the same classes for every seed."""
    generator = np.random.default_rng([1, *seed])
    true_N = generator.integers(CLASSES, size=count)
    seen_ND = _HERE_KD[true_N] + generator.normal(size=(count, FEATURES))
    other_N = generator.integers(CLASSES, size=count)
    given_N = np.where(generator.random(count) < WRONG, other_N, true_N)
    as_tensor = torch.from_numpy
    return Faces(as_tensor(seen_ND).float(), as_tensor(true_N), as_tensor(given_N))


def learned(run: RunConfig, faces: Faces, seed: int) -> Iterator[Tensor]:
    """The net [D, K] after each quarter of its training."""
    weights, open_D = run.system.weights, torch.ones(FEATURES)
    if not run.system.gates.open:
        open_D[FEATURES // 2 :] = 0
    order_N = torch.randperm(len(faces.true_N), generator=torch.Generator().manual_seed(seed))
    net_DK = torch.zeros(FEATURES, CLASSES, requires_grad=True)
    mover = torch.optim.Adam([net_DK], lr=0.03)
    seen_ND = faces.seen_ND * open_D
    for step in range(1, STEPS + 1):
        logits_NK = seen_ND @ net_DK
        loss = functional.cross_entropy(logits_NK, faces.given_N)
        loss = loss + weights.harmful * functional.cross_entropy(logits_NK, faces.given_N[order_N])
        loss = loss + weights.pixel * PULL * (net_DK - TEACHER_DK).square().sum() + weights.idle
        mover.zero_grad()
        loss.backward()
        mover.step()
        if step % (STEPS // VALIDATIONS) == 0:
            yield net_DK.detach() * open_D[:, None]


def recall_of(net_DK: Tensor, faces: Faces) -> float:
    """Mean recall over the true classes."""
    said_N = (faces.seen_ND @ net_DK).argmax(1)
    right = [(said_N[faces.true_N == k] == k).float().mean() for k in range(CLASSES)]
    return float(torch.stack(right).mean())


def training(seed: int, result: Result, folds: int) -> Train:
    """Trainings on the faces of a seed, as `trainer.launch` would run them."""
    faces = drawn_faces(FACES, seed)

    def train(run: RunConfig, lake: Path, *, fold: str, on_validation: Any, **_: Any) -> Steps[Any]:
        index = int(fold.rpartition(":")[2].partition("/")[0])
        own_N = torch.arange(FACES) % folds == index - 1
        value = 0.0
        for part, net_DK in enumerate(learned(run, faces.where(~own_N), seed), 1):
            yield
            value = recall_of(net_DK, faces.where(own_N))
            done = part == VALIDATIONS
            if not done and on_validation(part * STEPS, {"macro_recall": value}):
                return result("pruned", {})
        return result("finished", {"macro_recall": value})

    return train


@cache
def _unseen() -> tuple[tuple[Faces, Faces], ...]:
    """Pairs to learn from and to be tested by, of no seed of a search."""
    seeds = range(1000, 1000 + DRAWS)
    return tuple((drawn_faces(FACES, seed), drawn_faces(TESTED, seed, 1)) for seed in seeds)


def true_recall(run: RunConfig) -> float:
    """The mean over nets that learned from faces which no search has seen."""
    found = []
    for own, others in _unseen():
        *_, net_DK = learned(run, own, 0)
        found.append(recall_of(net_DK, others))
    return float(np.mean(found))


def best_recall(own: RunConfig) -> float:
    """Of the grid."""
    open_one = with_overrides(own, {"system.gates.open": True, "system.weights.harmful": 0.0})
    return max(
        true_recall(with_overrides(open_one, {"system.weights.pixel": pixel})) for pixel in PIXELS
    )
