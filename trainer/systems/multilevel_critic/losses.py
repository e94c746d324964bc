"""The terms of both players, from the paper's slides; non-saturating for the generator.

Shapes: B faces, C channels, H height, W width, K conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

from torch import Tensor

from trainer.losses.adversarial import joined, logistic
from trainer.losses.reconstruction import absolute_error, smooth_error
from trainer.system import Mean
from trainer.systems.multilevel_critic.nets import Critics, Images, shrunk

GENERATOR_TERMS = ("adversarial", "photo", "variation", "pixel", "smooth")
CRITIC_TERMS = ("critic", "critic_photo", "critic_variation")
LEVEL_TERMS = ("photo", "variation", "critic_photo", "critic_variation")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Made:
    """Source faces, true targets and made images by side, with their condition.

    `paired_B` tells where the target shows the same subject.
    """

    faces_BCHW: Tensor
    targets_BCHW: Tensor
    images: Images
    condition_BK: Tensor
    paired_B: Tensor


def generator_terms(critics: Critics, made: Made, wanted: frozenset[str]) -> dict[str, Mean]:
    """L_G of D, of all D_P and of all D_V; changes and pixels count where there is a pair."""
    seen, final = critics.seen(made.condition_BK), max(made.images)

    def photo(side: int) -> Mean:
        return logistic(critics.photo[str(side)](made.images[side], seen), 1.0)

    def variation(side: int) -> Mean:
        judge, source_BCHW = critics.variation[str(side)], shrunk(made.faces_BCHW, side)
        return logistic(judge(made.images[side], source_BCHW, seen), 1.0, made.paired_B)

    def pixel(side: int) -> Mean:
        target_BCHW = shrunk(made.targets_BCHW, side)
        error = absolute_error(made.images[side], target_BCHW, made.paired_B)
        return Mean(sum=error.sum / len(made.images), count=error.count)

    terms: dict[str, Callable[[], Mean]] = {
        "adversarial": lambda: logistic(critics.final(made.images[final], seen), 1.0),
        "photo": lambda: _summed(map(photo, critics.levels)),
        "variation": lambda: _summed(map(variation, critics.levels)),
        "pixel": lambda: _summed(map(pixel, made.images)),
        "smooth": lambda: smooth_error(made.images[final], made.targets_BCHW, made.paired_B),
    }
    return {name: terms[name]() for name in GENERATOR_TERMS if name in wanted}


def critic_terms(critics: Critics, made: Made, wanted: frozenset[str]) -> dict[str, Mean]:
    """-L_D, and the sums over the levels of -L_P and -L_V."""
    seen, final = critics.seen(made.condition_BK), max(made.images)

    def critic() -> Mean:
        real = logistic(critics.final(made.targets_BCHW, seen), 1.0)
        return joined(real, logistic(critics.final(made.images[final], seen), 0.0), 1.0)

    def photo(side: int) -> Mean:
        judge = critics.photo[str(side)]
        real = logistic(judge(shrunk(made.targets_BCHW, side), seen), 1.0)
        return joined(real, logistic(judge(made.images[side], seen), 0.0), 1.0)

    def variation(side: int) -> Mean:
        judge, source_BCHW = critics.variation[str(side)], shrunk(made.faces_BCHW, side)
        target_BCHW = shrunk(made.targets_BCHW, side)
        real = logistic(judge(target_BCHW, source_BCHW, seen), 1.0, made.paired_B)
        fake = logistic(judge(made.images[side], source_BCHW, seen), 0.0, made.paired_B)
        return joined(real, fake, 1.0)

    terms: dict[str, Callable[[], Mean]] = {
        "critic": critic,
        "critic_photo": lambda: _summed(map(photo, critics.levels)),
        "critic_variation": lambda: _summed(map(variation, critics.levels)),
    }
    return {name: terms[name]() for name in CRITIC_TERMS if name in wanted}


def _summed(means: Iterable[Mean]) -> Mean:
    """The sum of means over the same faces."""
    return reduce(lambda first, second: joined(first, second, 1.0), means)
