"""A checkpoint of one worker loads on two or three, and back, at every ZeRO stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.contract import batches as made_of
from tests.contract import resized
from tests.contract.ranks import Ranks
from trainer import catalog
from trainer.world import World

BY_ADAM = {"fersnet": 5, "exprgan": 8, "baseline": 5}
"""What Adam's own steps are shown by, and after which of them each is cut: FERSNet when some
parameters have had fewer gradients than others, ExprGAN two steps before its second stage."""


@pytest.fixture(scope="module")
def three_ranks() -> Iterator[Ranks]:
    """A group of three, for this file alone."""
    group = Ranks(3)
    yield group
    group.close()


def _to_and_back(
    group: Ranks,
    name: str,
    zero: int,
    folder: Path,
    *,
    cut: int,
    sgd: bool = False,
    images: int = made_of.BATCH_IMAGES,
) -> None:
    """From one worker to the group and back; each goes on as the one would that was cut."""
    alone, many = (
        resized.recipe(name, stage, **{"data.global_batch_images": images})
        for stage in (None, zero)
    )
    start = resized.saved(World.alone(), alone, folder, cut, sgd)
    moving = resized.parameters(alone) if sgd else set(start)
    expected = resized.trained(World.alone(), alone, folder, 3, sgd)
    halfway = group.run(resized.saved, many, folder, 3, sgd)
    for weights in halfway:
        _assert_close(start, expected, weights, moving)
    expected = group.run(resized.trained, many, folder, 2, sgd)[0]
    found = resized.trained(World.alone(), alone, folder, 2, sgd)
    _assert_close(halfway[0], expected, found, moving)


def _assert_close(
    start: dict[str, torch.Tensor],
    expected: dict[str, torch.Tensor],
    weights: dict[str, torch.Tensor],
    moving: set[str],
) -> None:
    """The weights within 1e-4, and how far those that are moving came within 1e-2."""
    assert made_of.distance(expected, weights) < 1e-4
    moves = ({key: end[key].float() - start[key] for key in moving} for end in (expected, weights))
    assert made_of.distance(*moves) < 1e-2


@pytest.mark.parametrize("zero", [0, 1, 2])
@pytest.mark.parametrize("name", catalog.names())
def test_one_worker_to_two_and_back(name: str, zero: int, ranks: Ranks, tmp_path: Path) -> None:
    """By SGD; of several stages the first one ends on two workers, a single one after them."""
    stages = made_of.build(resized.recipe(name, None)).stages()
    cut = resized.STEPS_PER_STAGE - (2 if len(stages) > 1 else 5)
    _to_and_back(ranks, name, zero, tmp_path, cut=cut, sgd=True)


@pytest.mark.parametrize("zero", [0, 1, 2])
@pytest.mark.parametrize("name", list(BY_ADAM))
def test_adam_goes_on_with_its_moments(name: str, zero: int, ranks: Ranks, tmp_path: Path) -> None:
    """Adam amplifies reordered sums, in some systems beyond what could be told from an error."""
    _to_and_back(ranks, name, zero, tmp_path, cut=BY_ADAM[name])


@pytest.mark.xdist_group("three_ranks")
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_one_worker_to_three_and_back(zero: int, three_ranks: Ranks, tmp_path: Path) -> None:
    _to_and_back(three_ranks, "fersnet", zero, tmp_path, cut=BY_ADAM["fersnet"], images=6)


def test_fersnet_counts_fewer_steps_for_what_begins_later(tmp_path: Path) -> None:
    """Without which the tests above would show little."""
    resized.saved(World.alone(), resized.recipe("fersnet", None), tmp_path, BY_ADAM["fersnet"])
    assert any(len(steps) > 1 for steps in resized.counted(tmp_path).values())


def test_a_picture_stands_while_the_training_goes_on(ranks: Ranks) -> None:
    """It shares no memory with what moves."""
    assert resized.picture_stands(World.alone(), resized.recipe("baseline", None))
    for zero in (0, 1, 2):
        assert all(ranks.run(resized.picture_stands, resized.recipe("baseline", zero)))
