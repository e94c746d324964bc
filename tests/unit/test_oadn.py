"""OADN: the 24 points, what is believed of them, and branches that can be left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_service.alignment.align import TEMPLATE_52
from data_service.corpora import drawn
from data_service.crops import FLIPPED_68
from data_service.ingest import ingest
from data_service.schema import Expression
from tests.contract import batches as made_of
from trainer import catalog, feed, launch
from trainer.overrides import with_overrides
from trainer.system import DataNeeds
from trainer.systems.oadn import landmarks
from trainer.systems.oadn.nets import attended, attention_maps
from trainer.systems.oadn.system import Oadn

SIDE = 256


def built(**settings: object) -> Oadn:
    run = with_overrides(catalog.recipe("oadn.tiny"), settings)
    return catalog.load("oadn").build(run.system, made_of.INFO)  # type: ignore[return-value]


def batch(count: int = 4):
    return made_of.make(DataNeeds(fields=("landmarks",)), made_of.INFO, count, 0)


def studio() -> np.ndarray:
    """68 landmarks of a drawn frontal face, aligned, 256 px: [1, 68, 3]."""
    from data_service.alignment.align import five_points, moved, similarity

    face = drawn.draw(
        subjects=[0], expressions=[Expression.NEUTRAL], intensities=[0.0], size=SIDE, difficulty=0.0
    )
    points = face.landmarks_BL2[0]
    matrix = similarity(five_points(np.pad(points, ((0, 0), (0, 1)))), TEMPLATE_52 * SIDE)
    return np.pad(moved(points, matrix), ((0, 0), (0, 1)), constant_values=1.0)[None]


def test_points_mirror_with_their_face() -> None:
    given = torch.from_numpy(studio()).float()
    mirrored = given[:, FLIPPED_68].clone()
    mirrored[..., 0] = SIDE - 1 - mirrored[..., 0]
    own = landmarks.points_24(given, SIDE)[0, :, :2]
    other = landmarks.points_24(mirrored, SIDE)[0, :, :2]
    other = torch.stack([SIDE - 1 - other[:, 0], other[:, 1]], dim=1)
    gaps = torch.cdist(own, other).amin(1)
    # the selection takes 59 and 57 of the lower lip, 53 of the upper one: the same points mirrored
    assert gaps.max() < 12 * SIDE / 256


def test_derived_points_take_the_least_score_and_strangers_none() -> None:
    given = torch.from_numpy(studio()).float()
    given[0, 19, 2] = 0.2
    given[0, 48, 0] = -500.0
    points = landmarks.points_24(given, SIDE)
    assert points.shape == (1, 24, 3)
    assert points[0, 16, 2] == pytest.approx(0.2)
    corner = landmarks.DIRECT.index(48)
    assert points[0, corner, 2] == 0 and points[0, 22, 2] == 0
    given[:] = torch.nan
    assert (landmarks.points_24(given, SIDE) == 0).all()


def test_five_points_give_about_the_same_24_as_68() -> None:
    given = torch.from_numpy(studio()).float()
    five = torch.from_numpy(np.pad(TEMPLATE_52 * SIDE, ((0, 0), (0, 1)), constant_values=1.0))
    substitute = landmarks.points_24(five[None].float(), SIDE)[0]
    own = landmarks.points_24(given, SIDE)[0]
    apart = (substitute[:, :2] - own[:, :2]).norm(dim=1) / SIDE
    assert apart.median() < 0.04 and apart.max() < 0.12
    moved = five.clone()
    moved[:, 0] += 20
    shifted = landmarks.points_24(moved[None].float(), SIDE)[0]
    torch.testing.assert_close(shifted[:, 0], substitute[:, 0] + 20, rtol=0, atol=1e-2)


@pytest.mark.parametrize("count", [21, 98])
def test_other_numbers_of_landmarks_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} landmarks were given; valid: 68, or 5"):
        landmarks.points_24(torch.zeros(1, count, 3), SIDE)


def test_a_map_stands_at_its_point_and_a_dropped_point_has_none() -> None:
    points = torch.tensor([[[11.5, 35.5, 0.9], [24.0, 24.0, 0.1]]])
    shown = points[..., 2] >= 0.6
    maps = attention_maps(points, shown, 0.05, 48, (12, 12))
    assert maps[0, 0].argmax() == (8 * 12 + 2) or maps[0, 0].amax() > 0.5
    assert maps[0, 1].sum() == 0
    flat = torch.ones(1, 3, 12, 12)
    torch.testing.assert_close(attended(flat, maps, "weighted"), torch.ones(1, 3))
    average = attended(flat, maps, "average")
    torch.testing.assert_close(average, (maps[0, 0].sum() / 144).expand(1, 3))


def test_what_lies_under_hidden_points_does_not_reach_the_attention() -> None:
    system = built(**{"system.weights.region": 0.0})
    system.network.eval()
    faces = batch()
    assert faces.landmarks_BL3 is not None
    unseen = faces.landmarks_BL3.clone()
    unseen[..., 2] = 0.0
    blind = replace(faces, landmarks_BL3=unseen)
    with torch.no_grad():
        logits = system.predict(blind).logits_BK
        none = system.predict(replace(faces, landmarks_BL3=None)).logits_BK
        seen = system.predict(faces).logits_BK
    assert logits is not None and none is not None and seen is not None
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))
    torch.testing.assert_close(logits, none)
    assert not torch.allclose(logits, seen)


def test_a_face_without_a_shown_point_is_read_by_the_regions_alone() -> None:
    system = built()
    system.network.eval()
    faces = batch()
    assert faces.landmarks_BL3 is not None
    some = faces.landmarks_BL3.clone()
    some[..., 2] = 1.0
    some[0, :, 2] = 0.0
    faces = replace(faces, landmarks_BL3=some)
    with torch.no_grad():
        logits_BK = system.predict(faces).logits_BK
        none_BK = system.predict(replace(faces, landmarks_BL3=None)).logits_BK
        said = system._read(faces, system.heads).logits
    assert logits_BK is not None and none_BK is not None
    regions_BK = said["region"].mean(1)
    torch.testing.assert_close(none_BK, regions_BK)
    torch.testing.assert_close(logits_BK[0], regions_BK[0])
    all_BK = torch.cat([said["attention"], said["region"]], dim=1).mean(1)
    torch.testing.assert_close(logits_BK[1:], all_BK[1:])


def test_a_prediction_is_one_pass_of_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    system = built()
    system.network.eval()
    features, passes = system.network.features, []

    def counted(faces_BCHW: torch.Tensor) -> torch.Tensor:
        passes.append(len(faces_BCHW))
        return features(faces_BCHW)

    monkeypatch.setattr(system.network, "features", counted)
    with torch.no_grad():
        prediction = system.predict(batch())
    assert passes == [4] and prediction.maps["attention"].shape[0] == 4


def test_heads_follow_the_weights() -> None:
    backbone = catalog.recipe("oadn.tiny_backbone").system
    assert not catalog.load("oadn").data(backbone).fields
    with pytest.raises(ValueError, match="every weight is 0"):
        built(**{f"system.weights.{name}": 0.0 for name in ("attention", "region", "whole")})
    with pytest.raises(ValueError, match="fusion regions needs"):
        built(**{"system.weights.region": 0.0, "system.fusion": "regions"})
    shared = built(**{"system.network.shared_heads": True})
    own = built()
    assert shared.network.region is not None and own.network.region is not None
    assert (len(shared.network.region.heads), len(own.network.region.heads)) == (1, 4)


def test_a_run_says_how_many_landmarks_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five are a substitute, and who compares runs has to know."""
    ingest("drawn", None, tmp_path, image_size=56, options={"subjects": 6, "faces_per_subject": 8})
    told: list[dict[str, str]] = []
    monkeypatch.setattr(launch, "create_run", lambda *_, tags, **__: told.append(tags) or "aaaa")
    rest: dict[str, Any] = {
        **{"fold": "1/3", "experiment": "test", "validation_only": False, "allow_leaks": False},
        **{"init_only": "*", "init_map": ()},
        **dict.fromkeys(("name", "parent", "init", "synthetic", "seen_by")),
    }
    for count in (68, 5):
        monkeypatch.setattr(feed, "_num_landmarks", lambda lake, count=count: count)
        launch._new_job(catalog.recipe("oadn.tiny"), tmp_path, **rest)
    launch._new_job(catalog.recipe("baseline.tiny"), tmp_path, **rest)
    assert [tags.get("mien.landmarks") for tags in told] == ["68", "5", None]
