"""A checkpoint of one worker loads on two or three, and back, at every ZeRO stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.contract import batches as made_of
from tests.contract import resized
from tests.contract.ranks import Ranks
from trainer.world import World

CUT = {"fersnet": 5, "exprgan": 8, "baseline": 5}
"""After which step each is cut: FERSNet when some parameters have had fewer gradients than others,
ExprGAN two steps before its second stage."""


@pytest.fixture(scope="module")
def three_ranks() -> Iterator[Ranks]:
    """A group of three, for this file alone."""
    group = Ranks(3)
    yield group
    group.close()


def _to_and_back(group: Ranks, name: str, zero: int, folder: Path, images: int) -> None:
    """From one worker to the group and back; each goes on as the one would that was cut."""
    alone, many = (
        resized.recipe(name, stage, **{"data.global_batch_images": images})
        for stage in (None, zero)
    )
    start = resized.saved(World.alone(), alone, folder, CUT[name])
    expected = resized.trained(World.alone(), alone, folder, 3)
    halfway = group.run(resized.saved, many, folder, 3)
    for weights in halfway:
        _assert_close(start, expected, weights)
    expected = group.run(resized.trained, many, folder, 2)[0]
    _assert_close(halfway[0], expected, resized.trained(World.alone(), alone, folder, 2))


def _assert_close(
    start: dict[str, torch.Tensor],
    expected: dict[str, torch.Tensor],
    weights: dict[str, torch.Tensor],
) -> None:
    """Adam amplifies reordered sums: the weights within 1e-4, how far they moved within 1e-2."""
    assert made_of.distance(expected, weights) < 1e-4
    moves = ({key: end[key].float() - start[key] for key in start} for end in (expected, weights))
    assert made_of.distance(*moves) < 1e-2


@pytest.mark.parametrize("zero", [0, 1, 2])
@pytest.mark.parametrize("name", list(CUT))
def test_one_worker_to_two_and_back(name: str, zero: int, ranks: Ranks, tmp_path: Path) -> None:
    _to_and_back(ranks, name, zero, tmp_path, made_of.BATCH_IMAGES)


@pytest.mark.xdist_group("three_ranks")
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_one_worker_to_three_and_back(zero: int, three_ranks: Ranks, tmp_path: Path) -> None:
    _to_and_back(three_ranks, "fersnet", zero, tmp_path, 6)


def test_fersnet_counts_fewer_steps_for_what_begins_later(tmp_path: Path) -> None:
    """Without which the tests above would show little."""
    resized.saved(World.alone(), resized.recipe("fersnet", None), tmp_path, CUT["fersnet"])
    assert any(len(steps) > 1 for steps in resized.counted(tmp_path).values())


def test_a_picture_stands_while_the_training_goes_on(ranks: Ranks) -> None:
    """It shares no memory with what moves."""
    assert resized.picture_stands(World.alone(), resized.recipe("baseline", None))
    for zero in (0, 1, 2):
        assert all(ranks.run(resized.picture_stands, resized.recipe("baseline", zero)))
