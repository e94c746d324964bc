"""`mien synthesise` and `--synthetic`: whose pool it is, who may fill it, who may train with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mien
from cluster import terminal
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.synthesis.pool import SealedPool
from tests.made_runs import finished_on, self_contained
from trainer import catalog, crossval, feed, job, launch
from trainer.config import RunConfig
from trainer.overrides import with_overrides
from trainer.synthetic import fesda
from trainer.synthetic.synthesise import Source, synthesise
from trainer.world import World

pytestmark = pytest.mark.usefixtures("quick_judges")

MAKER = "pixel_fes.tiny"
COUNT = 14
LEARNER = with_overrides(catalog.recipe("baseline.tiny"), {"data.synthetic_share": 0.3})


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=48, options={"subjects": 6, "faces_per_subject": 16})
    return path


def finished(run_id: str, lake: Path, *, recipe: str = MAKER, **about: Any) -> Path:
    return finished_on(lake, about.pop("run", None) or self_contained(recipe), run_id, **about)


def made(lake: Path, out: Path, **options: Any) -> SealedPool:
    return synthesise("aaaa", lake, out, **{"until": COUNT, "gate": 0.0, **options})


def prepared(run: RunConfig, lake: Path, fold: str = "1/3") -> tuple[Lake, feed.TrainingData]:
    opened = Lake.open(lake)
    return opened, feed.prepare(run, feed.spec_of(run), opened, fold)


def given(run: RunConfig, pool: Path | None, lake: Path, fold: str = "1/3") -> SealedPool | None:
    return feed.given_pool(run, pool, *prepared(run, lake, fold), fold)


def test_the_pool_says_whose_it_is(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    pool = made(lake, tmp_path / "pool")
    opened, data = prepared(LEARNER, lake)
    own = pool.manifest
    assert (own.lake, own.fold, own.fold_name, own.run) == (
        *(opened.hash, data.fold.hash),
        *("1/3", "aaaa"),
    )
    assert len(pool) > 0 and set(pool.table["source_row"].to_pylist()) <= set(data.fold.train_rows)
    again = made(lake, tmp_path / "again")
    assert again.hash == pool.hash


def test_an_identity_network_has_a_say(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake, recipe="fersnet.tiny")
    plain = made(lake, tmp_path / "pool")
    finished("aaaa", lake)
    assert plain.manifest.gate != made(lake, tmp_path / "other").manifest.gate


def test_a_generator_of_another_fold_of_the_lake_is_refused(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake, fold="2/3")
    with pytest.raises(ValueError, match=r"aaaa was trained, in fold 2/3, on \d of the subjects"):
        made(lake, tmp_path / "pool", fold="1/3")
    assert not (tmp_path / "pool").exists()
    made(lake, tmp_path / "pool", fold="2/3")


def test_what_the_generator_learnt_from_counts_as_well(lake: Path, tmp_path: Path) -> None:
    """First weights, and the faces of a pool; the generator itself is of another lake."""
    oldest = finished("bbbb", lake, fold="2/3")
    finished("aaaa", lake, lake_hash="another", init=oldest / "weights.safetensors")
    with pytest.raises(ValueError, match="bbbb was trained, in fold 2/3"):
        made(lake, tmp_path / "pool", fold="1/3")
    shown = synthesise("bbbb", lake, tmp_path / "shown", until=COUNT, gate=0.0)
    finished("aaaa", lake, lake_hash="another", pool=shown.path, pool_hash=shown.hash)
    with pytest.raises(ValueError, match="bbbb was trained, in fold 2/3"):
        made(lake, tmp_path / "pool", fold="1/3")


def test_an_identity_network_of_another_fold_is_refused(lake: Path, tmp_path: Path) -> None:
    finished("bbbb", lake, recipe="identity.tiny", fold="2/3")
    settings = with_overrides(catalog.recipe("fersnet.tiny"), {"system.identity_network": "bbbb"})
    finished("aaaa", lake, recipe="fersnet.tiny", run=settings)
    with pytest.raises(ValueError, match="bbbb was trained, in fold 2/3"):
        made(lake, tmp_path / "pool", fold="1/3")


def test_the_same_name_for_other_classes_is_another_fold(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    pool = made(lake, tmp_path / "pool")
    fewer = with_overrides(LEARNER, {"data.classes": "anger,happiness,surprise"})
    _, data = prepared(fewer, lake)
    assert data.fold.hash != pool.manifest.fold
    with pytest.raises(ValueError, match="as these classes divide it"):
        given(fewer, pool.path, lake)


def test_a_system_that_cannot_synthesise_is_refused(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake, recipe="baseline.tiny")
    with pytest.raises(ValueError, match=r"does not make faces; systems that do: .*fersnet"):
        made(lake, tmp_path / "pool")


def test_a_pool_of_another_lake_or_fold_is_refused(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    pool = made(lake, tmp_path / "pool")
    assert given(LEARNER, pool.path, lake) is not None
    with pytest.raises(ValueError, match=r"made for fold 1/3 of .*, not for fold 2/3"):
        launch.train(LEARNER, lake, fold="2/3", synthetic=pool.path)
    other = tmp_path / "other"
    ingest("drawn", None, other, image_size=48, options={"subjects": 6, "faces_per_subject": 8})
    with pytest.raises(ValueError, match="was made from another lake"):
        launch.train(LEARNER, other, fold="1/3", synthetic=pool.path)
    assert not list(job.runs_dir().glob("[!a]*")), "a run has begun"


def test_a_pool_that_is_not_whole_is_refused(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    pool = made(lake, tmp_path / "pool")
    half = tmp_path / "half"
    shutil.copytree(pool.path, half)
    (half / "manifest.json").unlink()
    with pytest.raises(ValueError, match="no sealed pool"):
        given(LEARNER, half, lake)
    faces = pool.path / "faces.bin"
    pixels = faces.read_bytes()
    faces.write_bytes(bytes([pixels[0] ^ 1]) + pixels[1:])
    with pytest.raises(ValueError, match="content has changed"):
        given(LEARNER, pool.path, lake)


def test_shares_are_exact(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    pool = made(lake, tmp_path / "pool")
    opened, data = prepared(LEARNER, lake)
    stages = feed.spec_of(LEARNER).build(LEARNER.system, data.info).stages()
    plan = feed.plan_of(LEARNER, data, opened, stages, given(LEARNER, pool.path, lake))
    synthetic = np.concatenate([plan.step(k).synthetic for k in range(30)])
    counts = synthetic.cumsum()
    assert (counts == np.arange(1, len(synthetic) + 1) * 3 // 10).all()
    rows = np.concatenate([plan.step(k).rows for k in range(30)])
    held_out = np.concatenate([data.fold.validation_rows, data.fold.test_rows])
    assert not np.isin(rows, held_out).any()
    assert (rows[synthetic] >= len(opened)).all()


def test_a_share_is_refused_that_a_small_pool_cannot_bear(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    full, empty = made(lake, tmp_path / "full"), made(lake, tmp_path / "empty", until=1)
    assert given(with_overrides(LEARNER, {"data.synthetic_share": 0.5}), full.path, lake)
    assert len(empty) == 0
    for run, pool in (
        (with_overrides(LEARNER, {"data.synthetic_share": 0.9}), full),
        (LEARNER, empty),
    ):
        says = rf"{len(pool)} faces beside \d+ real ones; a share of 0\.\d .*; valid: up to 0"
        with pytest.raises(ValueError, match=says):
            given(run, pool.path, lake)


def test_a_run_that_goes_on_keeps_the_pool_that_it_made(lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    pool = made(lake, tmp_path / "pool")
    opened, data = prepared(LEARNER, lake)
    synthesis = catalog.recipe("fersnet.small_fesda").synthesis
    run = SimpleNamespace(run=SimpleNamespace(synthesis=synthesis), directory=tmp_path, fold="1/3")
    training = SimpleNamespace(world=World.alone())  # its generator is not what it was: not asked
    assert fesda.seal(run, training, data, opened).hash == pool.hash  # type: ignore[arg-type]


def test_a_share_needs_a_pool_of_one_fold(lake: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a pool; give one: --synthetic"):
        launch.train(LEARNER, lake, fold="1/3")
    for run, pool in ((LEARNER, None), (catalog.recipe("baseline.tiny"), tmp_path)):
        with pytest.raises(ValueError, match="belongs to one fold"):
            crossval.crossval(run, lake, 3, synthetic=pool)
    own = catalog.recipe("fersnet.small_fesda")
    with pytest.raises(ValueError, match="makes its own synthetic faces"):
        feed.given_pool(own, tmp_path, *prepared(LEARNER, lake), "1/3")


@pytest.mark.parametrize("share", [-0.1, 0.91, float("nan")])
def test_shares_have_bounds(share: float) -> None:
    with pytest.raises(ValueError, match=r"data.synthetic_share is .*; valid: 0"):
        with_overrides(LEARNER, {"data.synthetic_share": share})
    with pytest.raises(ValueError, match=r"data.synthetic_share is .*; valid: 0"):
        replace(LEARNER, data=replace(LEARNER.data, synthetic_share=share))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `mien`: exit code, output, and its complaint."""

    def run(*words: object) -> tuple[int, str, str]:
        argv = list(map(str, words))
        code = terminal.run(lambda: mien.app(argv, prog_name="mien", standalone_mode=False))
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if not line.startswith("log: ")]
        return code, said.out, "\n".join(lines)

    return run


def test_the_command_prints_the_rate_of_every_class(call, lake: Path, tmp_path: Path) -> None:
    finished("aaaa", lake)
    words = ("synthesise", "aaaa", "--lake", lake, "--until", COUNT, "--gate", 0)
    code, out, _ = call(*words, "--out", tmp_path / "pool")
    assert code == terminal.DONE
    rates = SealedPool.open(tmp_path / "pool").manifest.admission_rates
    assert rates and all(f"{100 * rate:.1f} %" in out for rate in rates.values())
    _, out, _ = call(*words, "--out", tmp_path / "pool", "--json")
    assert json.loads(out.splitlines()[-1])["admission_rates"] == rates


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--until", "many"), "valid: equal, or a number of faces"),
        (("--until", "0"), "at least 1"),
        (("--gate", "1.5"), "valid: 0 to 1"),
        (("--fold", "4/3"), "3/3 are valid"),
    ],
)
def test_wrong_words_get_one_line(
    call, lake: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    finished("aaaa", lake)
    said = ("synthesise", "aaaa", "--lake", lake, "--out", tmp_path / "pool", *words)
    code, _, complaint = call(*said)
    assert code == terminal.WRONG_INPUT
    assert says in complaint and "\n" not in complaint


def test_train_and_crossval_say_what_a_pool_needs(call, lake: Path, tmp_path: Path) -> None:
    words = ("train", "baseline.tiny", "--lake", lake, "--fold", "1/3")
    train = (*words, "--synthetic", tmp_path / "pool")
    crossed = ("crossval", "baseline.tiny", "--lake", lake, "--folds", 3, "--synthetic", tmp_path)
    for words, says in (
        (train, "--synthetic needs --share"),
        ((*train, "--share", "0.95"), "valid: 0.0 to 0.9"),
        ((*train, "--share", "0.3"), "no sealed pool at"),
        (crossed, "belongs to one fold"),
    ):
        code, _, complaint = call(*words)
        assert code == terminal.WRONG_INPUT
        assert says in complaint and "\n" not in complaint


def test_live_synthesis_is_refused_before_anything_starts(lake: Path) -> None:
    finished("aaaa", lake)
    finished("bbbb", lake, recipe="baseline.tiny")
    finished("cccc", lake, fold="2/3")
    plain = catalog.recipe("baseline.tiny")
    fewer = with_overrides(LEARNER, {"data.classes": "anger,happiness,surprise"})
    for run, generator, says in (
        (LEARNER, "none", "there is no run 'none'"),
        (LEARNER, "bbbb", "does not make faces"),
        (LEARNER, "cccc", r"cccc was trained, in fold 2/3, on \d of the subjects"),
        (plain, "aaaa", "live:aaaa needs data.synthetic_share, such as --share"),
        (fewer, "aaaa", "the classes to be trained are anger, happiness, surprise"),
    ):
        with pytest.raises(ValueError, match=says):
            launch.train(run, lake, fold="1/3", synthetic=f"live:{generator}")
    assert not list(job.runs_dir().glob("[!abc]*")), "a run has begun"


def test_a_run_with_live_faces_has_learnt_of_their_makers_subjects(lake: Path) -> None:
    oldest = finished("bbbb", lake, fold="2/3")
    finished("aaaa", lake, lake_hash="another", live=oldest.name)
    with pytest.raises(ValueError, match="bbbb was trained, in fold 2/3"):
        Source.of("aaaa", lake, "1/3")
