"""Published tables: every figure has a source, every line that runs has its recipes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mien
from cluster import tables
from data_service import corpora
from data_service.audit import Leaks
from data_service.schema import Expression
from trainer import catalog, departures, launch, published, reproduce
from trainer.overrides import with_overrides
from trainer.scorecard.evaluate import Predictions, write_predictions

TABLES = published.tables()
TWO_FIGURES = re.compile(r"\b\d\d\.\d\d\b")
READMES = sorted((Path(catalog.__file__).parent / "systems").glob("*/README.md"))


def test_all_tables_are_there() -> None:
    assert set(TABLES) == {"ckplus6", "ckplus7", "ckplus8", "oulu", "mmi", "tfd", "sfew", "rafdb"}


@pytest.mark.parametrize("name", TABLES)
def test_every_figure_is_a_percentage_with_a_source(name: str) -> None:
    table = TABLES[name]
    assert len(set(table.classes)) == len(table.classes) > 1
    assert table.access.endswith(".") and table.ingest.startswith(f"mien ingest {table.corpus} ")
    for entry in table.entries:
        assert 10 < entry.figure < 100 and len(entry.source) > 10
    assert len({entry.method for entry in table.entries}) == len(table.entries)


def test_figures_kept_without_a_protocol_have_a_source_too() -> None:
    values = json.loads(published.PUBLISHED.read_text())
    for one in values["figures"].values():
        assert one["source"] in values["sources"] and one["values"]


@pytest.mark.parametrize("readme", READMES, ids=[path.parent.name for path in READMES])
def test_a_readme_has_no_papers_figure_that_the_data_file_lacks(readme: Path) -> None:
    """Papers print percent with two digits after the point, our own figures have one."""
    values = json.loads(published.PUBLISHED.read_text())
    known = {entry.figure for table in TABLES.values() for entry in table.entries}
    known |= {value for one in values["figures"].values() for value in one["values"].values()}
    _, _, figures = readme.read_text().partition("## Figures")
    assert {float(text) for text in TWO_FIGURES.findall(figures)} <= known


def line_of(table: str, method: str) -> published.Entry:
    (found,) = (one for one in TABLES[table].entries if one.method == method)
    return found


def test_both_tables_of_ckplus_say_how_the_paper_counts() -> None:
    notes = {line_of(table, "FN2EN").note for table in ("ckplus6", "ckplus8")}
    assert notes == {"mean over classes, by the survey of Li & Deng"}


def test_the_paper_of_fersnet_has_its_title() -> None:
    assert "Synthesis Based on Selective Feature Sharing" in line_of("ckplus7", "FERSNet").source


def test_a_setting_has_the_names_that_a_run_knows_it_by() -> None:
    chosen = [line_of("ckplus7", "FERSNet")]
    names = ("lambda_cls", "system.weights.lambda_cls", "system.weights.classification")
    for name in names:
        reproduce._check_settings(chosen, "paper", {name: 2})
        run = reproduce._run(chosen[0], "paper", [], None, {name: 2})
        assert run.system.weights.classification == 2


def test_what_is_set_differs_from_the_paper() -> None:
    table = TABLES["ckplus7"]
    manifest = SimpleNamespace(corpus="ckplus", classes={table.classes[0]: table.faces})
    lake: Any = SimpleNamespace(manifest=manifest)
    given = (table, [lake], list(table.classes), "paper", 10, None)
    assert departures.of_protocol(*given, {"system.identity_network": "aaaa"}) == []
    assert departures.of_protocol(*given, {"lambda_cls": "9", "data.grey": True}) == [
        "--set lambda_cls=9",
        "--set data.grey=True",
    ]


RUN = sorted(
    {
        (entry.system, entry.variant)
        for table in TABLES.values()
        for entry in table.entries
        if entry.system in catalog.names()
    }
)


@pytest.mark.parametrize(("system", "variant"), RUN)
@pytest.mark.parametrize("recipe", ["paper", "small"])
def test_every_line_that_runs_has_its_recipes(system: str, variant: str, recipe: str) -> None:
    name = f"{recipe}_{variant}" if variant else recipe
    run = catalog.recipe(f"{system}.{name}")
    assert run.recipe == name
    assert "recognise" in catalog.spec_of(run).capabilities
    stages = reproduce._stage_images(run)
    assert stages
    short = with_overrides(run, reproduce._shortened(run, stages, 4096))
    assert 0 < sum(reproduce._stage_images(short).values()) <= 4096


def test_an_unknown_table_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown table 'fer'; valid: ckplus6, ckplus7"):
        published.table_named("fer")


def test_without_the_corpus_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ckplus: Signed agreement .* mien ingest ckplus FOLDER"):
        reproduce.reproduce("ckplus7", [tmp_path / "none"])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from data_service.ingest import ingest

    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=56, options={"subjects": 6, "faces_per_subject": 16})
    return path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"systems": ("gan",)}, "ckplus8 has no line of gan; valid: fn2en"),
        ({"settings": {"system.nothing": 1}}, "--set system.nothing: none of these systems has it"),
        ({"images": 3}, "--images 3: fn2en needs"),
        ({"recipe": "huge"}, "unknown recipe 'fn2en.huge_scratch'"),
        ({"folds": 0}, "--folds 0: at least 2 are needed"),
        ({"folds": -1}, "--folds -1: at least 2 are needed"),
        ({"init_map": ("a=b",)}, "--init-map needs weights to start from"),
    ],
)
def test_wrong_input_is_one_clear_line(lake: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as found:
        reproduce.reproduce("ckplus8", [lake], **options)
    assert says in str(found.value)


def test_a_lake_without_the_classes_is_refused(lake: Path, monkeypatch) -> None:
    table = TABLES["ckplus8"]
    monkeypatch.setattr(
        reproduce,
        "table_named",
        lambda name: replace(table, classes=(Expression.ANGER,)),
    )
    with pytest.raises(ValueError, match="has not two of the classes of ckplus8: anger"):
        reproduce.reproduce("ckplus8", [lake])


def test_a_lake_without_an_official_split_says_so(lake: Path) -> None:
    with pytest.raises(ValueError, match="no official split"):
        launch.train(catalog.recipe("baseline.tiny"), lake, fold="official")


def test_what_leaks_is_refused_or_said(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = reproduce.Lake.open(lake)
    classes = [Expression(name) for name in opened.manifest.classes]
    divided = reproduce._divided([opened], 2, classes)
    assert reproduce._leaks(divided, allow=False) == []
    pair = reproduce.feed.split(opened, "1/2", tuple(classes))
    torn = Leaks(copies=((int(pair.train_rows[0]), int(pair.test_rows[0])),), subjects=())
    monkeypatch.setattr("trainer.leakage.leaks_of", lambda lake, split: torn)
    with pytest.raises(ValueError, match="--allow-leaks"):
        reproduce.reproduce("ckplus8", [lake], folds=2)
    (said,) = reproduce._leaks(divided, allow=True)
    assert said.startswith("leaks of drawn in fold 1/2: ") and "fold 2/2" in said


def test_all_that_differs_is_said(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "_ours", lambda *_: [])
    random = {"system.identity_network": "random"}
    given: Any = {"recipe": "tiny", "folds": 2, "settings": random}
    found = reproduce.reproduce("ckplus8", [lake], **given)["differs"]
    assert "the lake holds drawn, not ckplus" in found and "folds: 2, not 10" in found
    assert "fn2en: a random identity network, not VGG-Face" in found
    (held_out,) = (text for text in found if "held out for validation" in text)
    assert held_out == (
        "about 1/3 of the training subjects held out for validation, "
        "32 of 48 training faces of a fold are left"
    )


def test_the_corpora_of_the_tables_have_the_names_that_are_said() -> None:
    known = {table.corpus for table in TABLES.values()} & set(corpora.names())
    assert {"ckplus", "oulu_casia"} <= known


def split_lakes(count: int, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Lakes of TFD, one for each of so many official splits, as `Lake.open` would give them."""
    table = TABLES["tfd"]
    classes = dict.fromkeys(table.classes, 0) | {table.classes[0]: table.faces - 6}
    classes |= dict.fromkeys(table.classes[1:], 1)
    manifest = SimpleNamespace(corpus="tfd", classes=classes)
    paths = [Path(f"tfd{number}") for number in range(1, count + 1)]
    monkeypatch.setattr(
        reproduce.Lake,
        "open",
        lambda path: SimpleNamespace(path=path, manifest=manifest, hash=path.name),
    )
    monkeypatch.setattr(reproduce, "_divided", lambda *_: [])
    return paths


def vggface(folder: Path) -> dict[str, Any]:
    """The setting that gives a file of the paper's face network."""
    path = folder / "vggface.safetensors"
    path.touch()
    return {"system.identity_network": str(path)}


def said_of(path: Path, right: int, wrong: int) -> Predictions:
    """Faces of the first class, each of a subject of its own, of which some are read wrongly."""
    faces = right + wrong
    logits = np.eye(len(TABLES["tfd"].classes))[[0] * right + [1] * wrong]
    subjects = np.array([f"{path.name} {number}" for number in range(faces)])
    labels = np.zeros(faces, np.int64)
    return Predictions(rows=np.arange(faces), labels=labels, logits=logits, subjects=subjects)


def test_of_several_official_splits_the_mean_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every split counts alike, whatever number of faces it tests, and each is trained once."""
    lakes, trained = split_lakes(5, monkeypatch), []
    faces = {"honest": [(1, 1), (3, 1), (8, 2), (9, 1), (5, 5)], "peeking": [(4, 1)] * 5}

    def train(run: Any, lake: Path, *, fold: str, **_: Any) -> Any:
        trained.append((run.recipe, lake, fold))
        directory = tmp_path / f"{run.recipe} {lake.name}"
        directory.mkdir()
        for rule, file in reproduce._files("accuracy").items():
            write_predictions(said_of(lake, *faces[rule][lakes.index(lake)]), directory / file)
        return SimpleNamespace(status="finished", run_id=lake.name, directory=directory)

    monkeypatch.setattr(launch, "train", train)
    found = reproduce.reproduce("tfd", lakes, recipe="paper", settings=vggface(tmp_path))
    assert found["differs"] == [] and json.loads(json.dumps(found)) == found
    recipes = ("paper_scratch", "paper_finetuned", "paper")
    assert trained == [(recipe, lake, "official") for recipe in recipes for lake in lakes]
    ours = [row for row in found["rows"] if "ours" in row]
    assert [row["rule"] for row in ours] == ["honest", "peeking"] * 3
    for honest, peeking in zip(ours[::2], ours[1::2], strict=True):
        assert honest["ours"]["value"] == pytest.approx(np.mean([0.5, 0.75, 0.8, 0.9, 0.5]))
        assert honest["ours"]["low"] < honest["ours"]["value"] < honest["ours"]["high"]
        assert peeking["ours"]["value"] == pytest.approx(0.8)
        assert (honest["num_faces"], peeking["num_faces"]) == (36, 25)
        assert honest["run_ids"] == [lake.name for lake in lakes]


def test_fewer_splits_than_the_paper_s_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakes = split_lakes(2, monkeypatch)
    monkeypatch.setattr(reproduce, "_ours", lambda *_: [])
    found = reproduce.reproduce("tfd", lakes, settings=vggface(tmp_path))
    assert found["differs"] == ["official splits: 2, not 5"]


@pytest.mark.parametrize(
    ("name", "count", "folds", "says"),
    [
        ("tfd", 6, None, "6 lakes for tfd, folds official; valid: 1 to 5, one for each"),
        ("tfd", 2, 3, "2 lakes for tfd, folds 3; valid: 1"),
        ("rafdb", 2, None, "2 lakes for rafdb, folds official; valid: 1"),
        ("ckplus7", 2, None, "2 lakes for ckplus7, folds 10; valid: 1"),
    ],
)
def test_lakes_that_the_protocol_has_no_use_for_are_refused(
    name: str, count: int, folds: int | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=says):
        reproduce.reproduce(name, split_lakes(count, monkeypatch), folds=folds)


def test_a_split_that_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (lake,) = split_lakes(1, monkeypatch)
    with pytest.raises(ValueError, match=r"two of tfd1, tfd1 are the same; valid: one lake for"):
        reproduce.reproduce("tfd", [lake, lake])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_a_lake_says_what_it_needs(name: str) -> None:
    said = tables.protocol(TABLES[name].as_json())
    (command,) = (line for line in map(str, said) if "mien reproduce" in line)
    _, *lakes = command.split(" --lake ")
    made = TABLES[name].ingest
    assert len(lakes) == TABLES[name].lakes and f"--lake {lakes[0]} " in made and lakes[-1] in made


def test_the_command_takes_a_lake_for_each_split(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[str, list[Path]]] = []

    def run_table(name: str, lakes: list[Path], **_: Any) -> dict[str, Any]:
        given.append((name, lakes))
        return {"rows": [], "metric": "accuracy", "differs": []}

    monkeypatch.setattr(reproduce, "reproduce", run_table)
    words = ["reproduce", "tfd", "--lake", "lakes/tfd1", "--lake", "lakes/tfd2", "--json"]
    mien.app(words, prog_name="mien", standalone_mode=False)
    assert given == [("tfd", [Path("lakes/tfd1"), Path("lakes/tfd2")])]
    assert "differs" in capsys.readouterr().out
    mien.app(["reproduce", "tfd", "--json"], prog_name="mien", standalone_mode=False)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["lakes"] == 5
    assert len(given) == 1, "without a lake the protocol is shown"
