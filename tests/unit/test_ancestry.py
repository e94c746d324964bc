"""What a run uses: which weights are taken, and which have seen the subjects to be tested."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from tests.corpora import photos
from tests.made_runs import recorded
from trainer import catalog, feed, job, launch
from trainer.ancestry import check_unseen, first_weights, unchecked, unseen_rows
from trainer.config import NAMES_RUN, RunConfig
from trainer.crossval import crossval
from trainer.overrides import with_overrides

IDENTITY = catalog.recipe("identity.tiny")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    return ingested("drawn", None, path, 56, subjects=12, faces_per_subject=8)


def ingested(corpus: str, source: Path | None, path: Path, side: int, **options: Any) -> Lake:
    ingest(corpus, source, path, image_size=side, options=options)
    return Lake.open(path)


def finished(
    home: Path,
    run_id: str,
    lake_hash: str,
    fold: str,
    init: Path | None = None,
    run: RunConfig = IDENTITY,
    lake: Path | None = None,
) -> Path:
    """A run on disk with (empty) weights; the path of those."""
    about = {"lake": lake or home / "lake", "lake_hash": lake_hash, "fold": fold, "init": init}
    made = recorded(run, run_id, **about)
    weights = made.directory / "weights.safetensors"
    weights.touch()
    return weights


def check(lake: Lake, init: str | None, *folds: str, run: RunConfig = IDENTITY) -> dict[str, str]:
    classes = job.classes_of(run, lake.manifest.classes)
    named = {fold: feed.split(lake, fold, classes) for fold in folds}
    return check_unseen(run, first_weights(init) if init else None, lake, named)


def using(recipe: str, **settings: Any) -> RunConfig:
    return with_overrides(catalog.recipe(recipe), {f"system.{k}": v for k, v in settings.items()})


def test_a_run_of_another_lake_or_of_the_same_fold_is_taken(own_home: Path, lake: Lake) -> None:
    weights = finished(own_home, "aaaa", lake.hash, "1/5")
    elsewhere = finished(own_home, "bbbb", "photos", "2/5")
    assert first_weights("aaaa") == first_weights(str(weights)) == weights
    for init in ("aaaa", str(weights), "bbbb", str(elsewhere)):
        check(lake, init, "1/5")


@pytest.mark.parametrize("fold", ["2/5", "1/3"])
def test_whoever_has_seen_a_test_subject_is_refused(own_home: Path, lake: Lake, fold: str) -> None:
    weights = finished(own_home, "aaaa", lake.hash, "1/5")
    saved = weights.parent / "checkpoints" / "000000001" / "state.safetensors"
    saved.parent.mkdir(parents=True)
    saved.touch()
    for init in ("aaaa", str(weights), str(saved)):
        with pytest.raises(ValueError, match=rf"aaaa was trained .* 1/5, on \d+ .* fold {fold} te"):
            check(lake, init, fold)


def test_the_same_fold_of_other_classes_tests_other_subjects(own_home: Path, lake: Lake) -> None:
    """Subjects are dealt by their classes: the name of a fold does not say who is in it."""
    names = lake.table["subject"].to_pylist(), lake.table["expression"].to_pylist()
    keep = [face != "fear" or subject >= "s0006" for subject, face in zip(*names, strict=True)]
    uneven: Any = SimpleNamespace(
        table=lake.table.filter(pa.array(keep)), manifest=lake.manifest, hash=lake.hash
    )
    few = with_overrides(IDENTITY, {"data.classes": "fear,anger"})
    finished(own_home, "aaaa", lake.hash, "1/5", run=few)
    check(uneven, "aaaa", "1/5", run=few)
    with pytest.raises(ValueError, match="aaaa was trained on this very lake in fold 1/5"):
        check(uneven, "aaaa", "1/5")


def test_the_same_photographs_in_another_lake_count(own_home: Path, tmp_path: Path) -> None:
    """A face is known by its file, at whatever size a lake keeps it."""
    source = photos.build(tmp_path / "album")
    learnt, other = (ingested("photos", source, tmp_path / str(side), side) for side in (48, 64))
    assert learnt.hash != other.hash
    weights = finished(own_home, "aaaa", learnt.hash, "1/3", lake=learnt.path)
    with pytest.raises(ValueError, match=r"aaaa .* on the same photographs, in .*48"):
        check(other, "aaaa", "2/3")
    free = unseen_rows(weights, other, np.arange(len(other.table)))
    subjects = [lake.table["subject"].to_pylist() for lake in (learnt, other)]
    tested = {subjects[0][row] for row in feed.split(learnt, "1/3", ()).test_rows}
    assert {subjects[1][row] for row in free} == tested != set()


def test_other_files_and_faces_drawn_at_another_size_are_not_known_again(
    own_home: Path, lake: Lake, tmp_path: Path
) -> None:
    """What `check_unseen` says of its bounds."""
    larger = ingested("drawn", None, tmp_path / "drawn", 64, subjects=12, faces_per_subject=8)
    renamed = photos.build(tmp_path / "album")
    known = ingested("photos", renamed, tmp_path / "known", 48)
    renamed.joinpath("images").rename(renamed / "faces")
    table = renamed / "labels.csv"
    table.write_text(table.read_text().replace("images/", "faces/"))
    others = ((lake, larger), (known, ingested("photos", renamed, tmp_path / "other", 48)))
    for index, (learnt, other) in enumerate(others):
        weights = finished(own_home, f"aaa{index}", learnt.hash, "1/3", lake=learnt.path)
        every = np.arange(len(other.table))
        assert np.array_equal(unseen_rows(weights, other, every), every)


def test_a_lake_that_is_gone_tells_nothing_and_the_record_says_so(
    own_home: Path, lake: Lake
) -> None:
    gone = finished(own_home, "bbbb", "gone", "1/5")
    assert len(unseen_rows(gone, lake, np.arange(5))) == 5
    finished(own_home, "cccc", lake.hash, "1/5", init=gone)
    told = check(lake, "cccc", "1/5")["mien.unchecked"]
    assert told == f"run bbbb, whose lake {own_home / 'lake'} is gone"
    assert unchecked([gone], lake) == told


def test_the_generator_of_its_faces_counts_as_well(own_home: Path, lake: Lake) -> None:
    finished(own_home, "aaaa", lake.hash, "1/5")
    finished(own_home, "bbbb", "gone", "1/5")
    fold = {"2/5": feed.split(lake, "2/5", lake.manifest.classes)}
    with pytest.raises(ValueError, match="fold 2/5 tests"):
        check_unseen(IDENTITY, None, lake, fold, generator="aaaa")
    told = check_unseen(IDENTITY, None, lake, fold, generator="bbbb")
    assert told["mien.unchecked"].startswith("run bbbb, whose lake")
    told = check_unseen(IDENTITY, None, lake, fold, generator="cccc")
    assert told == {"mien.unchecked": "the generator, run cccc, which is gone"}


def test_every_fold_of_a_crossvalidation_counts(own_home: Path, lake: Lake) -> None:
    finished(own_home, "aaaa", lake.hash, "1/5")
    with pytest.raises(ValueError, match="fold 2/5 tests"):
        check(lake, "aaaa", "1/5", "2/5", "3/5")
    with pytest.raises(ValueError, match="fold 2/5 tests"):
        crossval(IDENTITY, lake.path, 5, init="aaaa")


def test_a_file_outside_of_a_run_is_taken(own_home: Path, tmp_path: Path, lake: Lake) -> None:
    weights = tmp_path / "published.safetensors"
    weights.touch()
    assert check(lake, str(weights), "1/5") == {"mien.unchecked": str(weights)}
    finished(own_home, "bbbb", lake.hash, "1/5", init=weights)
    assert check(lake, "bbbb", "1/5") == {"mien.unchecked": str(weights)}
    finished(own_home, "aaaa", lake.hash, "1/5")
    assert check(lake, "aaaa", "1/5") == {}


def test_what_the_first_weights_came_from_counts_as_well(own_home: Path, lake: Lake) -> None:
    oldest = finished(own_home, "aaaa", lake.hash, "1/5")
    middle = finished(own_home, "bbbb", "drawn", "1/5", init=oldest)
    finished(own_home, "cccc", "drawn", "1/5", init=middle)
    finished(own_home, "dddd", "drawn", "1/5", run=using("fersnet.tiny", identity_network="aaaa"))
    for init in ("cccc", "dddd"):
        with pytest.raises(ValueError, match="aaaa was trained on this very lake"):
            check(lake, init, "2/5")


NAMING = [
    ("fersnet.tiny", "identity_network"),
    ("fn2en.tiny", "identity_network"),
    ("exprgan.tiny", "identity_network"),
    ("occlusion_distillation.tiny", "teacher"),
]


@pytest.mark.parametrize(("recipe", "setting"), NAMING)
def test_runs_that_settings_name_count_as_well(
    own_home: Path, lake: Lake, recipe: str, setting: str
) -> None:
    weights = finished(own_home, "aaaa", lake.hash, "1/5")
    for source in ("aaaa", str(weights), str(weights.parent)):
        run = using(recipe, **{setting: source})
        check(lake, None, "1/5", run=run)
        with pytest.raises(ValueError, match="aaaa was trained on this very lake"):
            check(lake, None, "2/5", run=run)
    for source in ("random", "gone", str(own_home / "none.safetensors"), ""):
        check(lake, None, "2/5", run=using(recipe, **{setting: source}))


def test_every_setting_that_names_a_run_is_known() -> None:
    found = {
        (f"{name}.tiny", item.name)
        for name in catalog.names()
        for item in dataclasses.fields(catalog.load(name).config)
        if item.metadata.get(NAMES_RUN) or item.name in ("identity_network", "teacher")
    }
    assert found == set(NAMING)


def test_training_refuses_before_anything_starts(
    own_home: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "check_system", lambda *given: None)
    finished(own_home, "aaaa", lake.hash, "1/5")
    run = using("fersnet.tiny", identity_network="aaaa")
    with pytest.raises(ValueError, match="fold 2/5 tests"):
        launch.train(run, lake.path, fold="2/5")
    with pytest.raises(ValueError, match="fold 1/3 tests"):
        crossval(run, lake.path, 3)
    assert [path.name for path in (own_home / "runs").iterdir()] == ["aaaa"]


def test_weights_that_are_not_there_are_named(own_home: Path, tmp_path: Path) -> None:
    finished(own_home, "aaaa", "drawn", "1/5").unlink()
    with pytest.raises(ValueError, match="aaaa has no finished weights"):
        first_weights("aaaa")
    with pytest.raises(ValueError, match="there is no file"):
        first_weights(str(tmp_path / "none.safetensors"))
