"""What an exported model is tried on, and what it says that it cannot be asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_service.schema import DatasetInfo
from tests.contract import batches as made_of
from tests.made_runs import finished, self_contained
from trainer.inference import export
from trainer.restore import load_system
from trainer.system import CAPABILITIES


def told(recipe: str, attributes: tuple[str, ...] = ()) -> dict:
    """What `model.json` says of a run of the recipe with fresh weights."""
    run = self_contained(recipe)
    info = replace(made_of.info_of(run), attributes=attributes, landmarks=0)
    loaded = load_system(finished(run, info).name)
    return export._described(loaded, export.Exportable(loaded))


@pytest.mark.parametrize(
    ("recipe", "attributes", "left_out"),
    [
        ("ter_gan.tiny", (), ["transfer"]),
        ("exprgan.tiny", (), ["transfer"]),
        ("multilevel_critic.tiny_pose", ("yaw",), ["yaw"]),
        ("multilevel_critic.tiny", (), []),
    ],
)
def test_a_model_says_what_it_cannot_be_asked(
    own_home: Path, recipe: str, attributes: tuple[str, ...], left_out: list[str]
) -> None:
    said = told(recipe, attributes)
    assert list(said["left_out"]) == left_out
    assert not set(left_out) & {*said["inputs"], *said["outputs"]}


def test_every_capability_leaves_or_is_said_to_stay() -> None:
    assert {*export.OUTPUTS, "intensity", *export.LEFT_OUT} == {*CAPABILITIES, "yaw"}


def test_landmarks_are_tried_at_every_confidence() -> None:
    info = DatasetInfo(classes=(), image_size=48, channels=3, subjects=2, landmarks=68)
    model = SimpleNamespace(inputs=["landmarks"])
    (points_BL3,) = export._example(SimpleNamespace(info=info), model, 3)  # type: ignore[arg-type]
    assert points_BL3[..., :2].max() > 40
    scores_BL = points_BL3[..., 2]
    assert 0 <= scores_BL.min() < 0.1 and 0.9 < scores_BL.max() <= 1
