"""What a run's data offer, against what its system asks for."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from data_service.schema import DatasetInfo, Expression
from trainer import catalog, feed
from trainer.overrides import with_overrides
from trainer.presets import PHOTO_CLASSES
from trainer.system import DataNeeds


def lake(**columns: list[Any]) -> Any:
    types = {"attributes": pa.map_(pa.string(), pa.float32()), "landmarks": pa.list_(pa.float32())}
    arrays = {name: pa.array(values, types[name]) for name, values in columns.items()}
    return SimpleNamespace(path=Path("lakes/some"), table=pa.table(arrays))


def test_attributes_are_all_or_those_that_are_named() -> None:
    some = lake(attributes=[[("hat", 1.0), ("beard", 0.0)], None, [("yaw", 3.0)]])
    needs = DataNeeds(fields=("attributes",))
    assert feed._attributes(some, needs) == ("beard", "hat"), "an angle is no attribute of a face"
    named = DataNeeds(fields=("attributes",), attributes=("yaw", "hat"))
    assert feed._attributes(some, named) == ("yaw", "hat")


def test_attributes_that_are_missing_are_named() -> None:
    needs = DataNeeds(fields=("attributes",), attributes=("hat", "smile"))
    with pytest.raises(ValueError, match="no attribute smile; it has beard, hat"):
        feed._attributes(lake(attributes=[[("hat", 1.0), ("beard", 0.0)]]), needs)
    with pytest.raises(ValueError, match="has no attributes, which"):
        feed._attributes(lake(attributes=[None, []]), needs)
    with pytest.raises(ValueError, match="has no attributes, which"):
        feed._attributes(lake(attributes=[[("yaw", 1.0)]]), DataNeeds(fields=("attributes",)))
    with pytest.raises(ValueError, match="'attributes' is not asked for"):
        DataNeeds(attributes=("hat",))


def test_landmarks_are_alike_or_unknown() -> None:
    five, many = [1.0] * 15, [1.0] * 204
    assert feed._num_landmarks(lake(landmarks=[five, None, five])) == 5
    assert feed._num_landmarks(lake(landmarks=[many, None])) == 68
    with pytest.raises(ValueError, match="no landmarks, which"):
        feed._num_landmarks(lake(landmarks=[None, []]))
    with pytest.raises(ValueError, match="5, 68 landmarks"):
        feed._num_landmarks(lake(landmarks=[five, many]))
    with pytest.raises(ValueError, match="with 21 landmarks"):
        feed._num_landmarks(lake(landmarks=[[1.0] * 63]))


def test_a_generator_needs_two_classes() -> None:
    run = with_overrides(catalog.recipe("fersnet.small"), {"data.classes": "anger"})
    one: Any = SimpleNamespace(
        path=Path("lakes/some"),
        manifest=SimpleNamespace(classes={"anger": 5}),
        require_size=lambda side: None,
    )
    with pytest.raises(ValueError, match=r"needs two classes or more; a run of anger alone on"):
        feed.prepare(run, catalog.spec_of(run), one, "1/2")
    alone = with_overrides(catalog.recipe("fersnet.small_single_task"), {"data.classes": "anger"})
    assert feed._classes(alone, catalog.spec_of(alone), one) == (Expression.ANGER,)


@pytest.mark.parametrize(
    ("system", "alignments", "aligned"),
    [
        ("paw", {"corpus": 5, "fallback": 2, "none": 1, "centre": 1}, 7),
        ("paw", {"none": 8, "centre": 1}, 0),
        ("baseline", {"corpus": 9}, 0),
    ],
)
def test_a_system_of_unaligned_faces_that_gets_aligned_ones_is_told(
    caplog: pytest.LogCaptureFixture, system: str, alignments: dict[str, int], aligned: int
) -> None:
    manifest = SimpleNamespace(alignments=alignments, count=9)
    some: Any = SimpleNamespace(path=Path("lakes/some"), manifest=manifest)
    run = catalog.recipe(f"{system}.paper")
    spec = catalog.spec_of(run)
    with caplog.at_level(logging.WARNING):
        feed._tell_of_aligned(spec, spec.data(run.system), some)
    told = (
        f"{system} is meant for faces that nobody aligned; of the 9 of lakes/some the ingest "
        f"aligned {aligned}"
    )
    assert caplog.messages == ([told] if aligned else [])


@pytest.mark.parametrize("recipe", ["small", "small_fesda"])
def test_more_workers_than_share_what_is_edited_are_refused(recipe: str) -> None:
    """Every fourth face of a share is edited; batches have 32."""
    run = with_overrides(catalog.recipe(f"fersnet.{recipe}"), {"engine.workers": 16})
    spec, info = (
        catalog.spec_of(run),
        DatasetInfo(
            classes=PHOTO_CLASSES, image_size=48, channels=1, subjects=9, class_images=(9,) * 5
        ),
    )
    data: Any = SimpleNamespace(info=info, needs=spec.data(run.system))
    some: Any = SimpleNamespace()
    with pytest.raises(ValueError, match="16 workers cannot share equally in multiples of 4"):
        feed.check_system(run, spec, data, some, None)
    stages = feed._stages(run, spec, data)
    assert all((stage.data or data.needs).share_multiple == 4 for stage in stages)


@pytest.mark.parametrize(
    ("recipe", "validates", "lacks"),
    [
        ("baseline.tiny", 3, ""),
        ("baseline.tiny", 0, "the fold has no validation faces"),
        ("exprgan.tiny", 3, "exprgan.tiny recognises no expressions"),
        ("fn2en.tiny", 3, ""),
    ],
)
def test_weights_are_chosen_only_by_what_a_validation_tells(
    recipe: str, validates: int, lacks: str
) -> None:
    run = catalog.recipe(recipe)
    chooses = with_overrides(run, {"evaluation.select": "accuracy", "evaluation.every_images": 64})
    data: Any = SimpleNamespace(fold=SimpleNamespace(validation_rows=range(validates)))
    spec = catalog.load(run.system_name)
    feed._check_select(run, spec, data)
    never = with_overrides(run, {"evaluation.select": "accuracy", "evaluation.every_images": 0})
    with pytest.raises(ValueError, match="every_images is 0"):
        feed._check_select(never, spec, data)
    if not lacks:
        return feed._check_select(chooses, spec, data)
    with pytest.raises(ValueError, match=f"select is accuracy, but {lacks}; valid: last"):
        feed.check_system(chooses, spec, data, lake(), None)
