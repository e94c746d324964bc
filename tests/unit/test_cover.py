"""Hidden parts of faces: what is covered, and which landmarks are then unseen."""

from __future__ import annotations

import torch

from data_service.schema import DatasetInfo
from tests.contract import batches as made_of
from trainer.nets.cover import block_masks, covered, half_mask
from trainer.nets.parts import cut_parts
from trainer.system import DataNeeds

INFO: DatasetInfo = made_of.INFO


def test_halves_meet_at_the_border() -> None:
    upper, lower = half_mask("upper", 10, 0.3), half_mask("lower", 10, 0.3)
    assert upper[:3].all() and not upper[3:].any()
    assert torch.equal(upper, ~lower)
    left = half_mask("left", 10, 0.3)
    assert left[:, :3].all() and not left[:, 3:].any()


def test_blocks_have_their_size_and_stay_within_the_face() -> None:
    place_B2 = torch.tensor([[0.0, 0.0], [0.999, 0.5], [0.3, 0.999]])
    masks_BHW = block_masks(place_B2, 20, 0.25)
    assert masks_BHW.flatten(1).sum(1).tolist() == [25, 25, 25]
    assert masks_BHW[0, :5, :5].all()
    assert masks_BHW[1, 15:, :].any() and masks_BHW[2, :, 15:].any()


def test_landmarks_below_the_cover_lose_their_score_and_nothing_else() -> None:
    batch = made_of.make(DataNeeds(fields=("landmarks",)), INFO, 3, 0)
    mask_HW = half_mask("upper", INFO.image_size, 0.5)
    hidden = covered(batch, mask_HW, torch.tensor([-1.0, 0.0, 0.5]))
    assert batch.landmarks_BL3 is not None and hidden.landmarks_BL3 is not None
    below_BL = batch.landmarks_BL3[..., 1].round() < INFO.image_size / 2
    assert below_BL.any() and not below_BL.all()
    assert (hidden.landmarks_BL3[..., 2][below_BL] == 0).all()
    kept = hidden.landmarks_BL3[~below_BL]
    assert torch.equal(kept, batch.landmarks_BL3[~below_BL])
    half = INFO.image_size // 2
    assert (hidden.faces_BCHW[2, :, :half] == 0.5).all()
    assert torch.equal(hidden.faces_BCHW[:, :, half:], batch.faces_BCHW[:, :, half:])


def test_unknown_landmarks_stay_unknown() -> None:
    batch = made_of.make(DataNeeds(fields=("landmarks",)), INFO, 2, 0)
    assert batch.landmarks_BL3 is not None
    batch.landmarks_BL3[0] = torch.nan
    hidden = covered(batch, half_mask("lower", INFO.image_size, 0.5), 0.0)
    assert hidden.landmarks_BL3 is not None
    assert hidden.landmarks_BL3[0].isnan().all()


def test_parts_are_cut_where_asked_and_kept_within_the_image() -> None:
    images_BCHW = (
        torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    centres_BN2 = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [1.0, 1.0]]])
    parts_BNCSS = cut_parts(images_BCHW, centres_BN2, 0.5, 4)
    assert parts_BNCSS.shape == (1, 3, 1, 4, 4)
    assert torch.equal(parts_BNCSS[0, 0], images_BCHW[0, :, :4, :4])
    assert torch.equal(parts_BNCSS[0, 1], images_BCHW[0, :, :4, 4:])
    assert torch.equal(parts_BNCSS[0, 2], images_BCHW[0, :, 4:, 4:])
