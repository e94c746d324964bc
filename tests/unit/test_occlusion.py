"""What is covered, and what stays."""

from __future__ import annotations

import pytest
import torch

from data_service.schema import FaceBatch
from trainer.scorecard.occlusion import BLOCK_SHARE, BLOCKS, OCCLUSIONS, occluded

SIDE = 40


def batch(count: int = 3) -> FaceBatch:
    rows = torch.arange(count)
    eyes_and_mouth = torch.tensor([[14.0, 16.0, 1.0], [25.0, 16.0, 1.0], [20.0, 29.0, 1.0]])
    return FaceBatch(
        faces_BCHW=torch.ones(count, 3, SIDE, SIDE),
        expression_B=rows,
        target_expression_B=rows,
        subject_B=rows,
        row_B=rows,
        key_B=rows,
        synthetic_B=torch.zeros(count, dtype=torch.bool),
        landmarks_BL3=eyes_and_mouth.expand(count, 3, 3).clone(),
    )


def covered(kind: str, face_pixels: int = SIDE) -> torch.Tensor:
    return occluded(batch(), kind, face_pixels).faces_BCHW[:, 0] != 1


@pytest.mark.parametrize(("one", "other"), [("left", "right"), ("upper", "lower")])
@pytest.mark.parametrize("face_pixels", [SIDE, 48, 57])
def test_two_halves_are_the_whole_face(one: str, other: str, face_pixels: int) -> None:
    assert torch.all(covered(one, face_pixels) ^ covered(other, face_pixels))


def test_landmarks_below_the_cover_lose_their_confidence() -> None:
    confidence = {
        kind: occluded(batch(), kind, SIDE).landmarks_BL3[0, :, 2].tolist() for kind in OCCLUSIONS
    }
    assert confidence["eyes"] == [0, 0, 1]
    assert confidence["mouth"] == [1, 1, 0]
    assert confidence["left"] == [0, 1, 1 if SIDE / 2 <= 20 else 0]
    assert confidence["upper"] == [0, 0, 1] and confidence["lower"] == [1, 1, 0]


def test_blocks_are_the_same_for_the_same_face_and_differ_between_faces() -> None:
    once, again = covered("blocks"), covered("blocks")
    assert torch.equal(once, again)
    assert not torch.equal(once[0], once[1])
    share = once.float().mean()
    assert BLOCK_SHARE**2 <= share <= BLOCKS * BLOCK_SHARE**2


def test_the_cover_lies_where_the_face_does_whatever_the_crop() -> None:
    whole, cut = covered("mouth", SIDE), covered("mouth", 60)
    assert cut[0].sum() > whole[0].sum()  # the same mouth, seen larger


def test_an_unknown_occlusion_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="unknown occlusion 'scarf'; valid: left, right"):
        occluded(batch(), "scarf", SIDE)
