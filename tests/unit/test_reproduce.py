"""Published tables: every figure has a source, every line that runs has its recipes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_service import corpora
from data_service.audit import Leaks
from data_service.schema import Expression
from trainer import catalog, launch, reproduce
from trainer.overrides import with_overrides

TABLES = reproduce.tables()


def test_the_issue_s_tables_are_there() -> None:
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
    values = json.loads(reproduce.PUBLISHED.read_text())
    for one in values["figures"].values():
        assert one["source"] in values["sources"] and one["values"]


def line_of(table: str, method: str) -> reproduce.Entry:
    (found,) = (one for one in TABLES[table].entries if one.method == method)
    return found


def test_both_tables_of_ckplus_say_how_the_paper_counts() -> None:
    notes = {line_of(table, "FN2EN").note for table in ("ckplus6", "ckplus8")}
    assert notes == {"mean over classes, by the survey of Li & Deng"}


def test_the_paper_of_fersnet_has_its_title() -> None:
    assert "Synthesis Based on Selective Feature Sharing" in line_of("ckplus7", "FERSNet").source


def test_a_setting_has_the_names_that_a_run_knows_it_by() -> None:
    chosen = [line_of("ckplus7", "FERSNet")]
    lake: Any = None
    names = ("lambda_cls", "system.weights.lambda_cls", "system.weights.classification")
    for name in names:
        reproduce._check_settings(chosen, "paper", {name: 2})
        run = reproduce._run(chosen[0], "paper", lake, [], None, {name: 2})
        assert run.system.weights.classification == 2


def test_what_is_set_differs_from_the_paper() -> None:
    table = TABLES["ckplus7"]
    manifest = SimpleNamespace(corpus="ckplus", classes={table.classes[0]: table.faces})
    lake: Any = SimpleNamespace(manifest=manifest)
    given = (table, lake, list(table.classes), "paper", 10, None)
    assert reproduce._differs(*given, {"system.identity_network": "aaaa"}) == []
    assert reproduce._differs(*given, {"lambda_cls": "9", "data.grey": True}) == [
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
    stages = reproduce._stage_images(run)
    assert stages
    short = with_overrides(run, reproduce._shortened(run, stages, 4096))
    assert 0 < sum(reproduce._stage_images(short).values()) <= 4096


def test_an_unknown_table_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown table 'fer'; valid: ckplus6, ckplus7"):
        reproduce.table_named("fer")


def test_without_the_corpus_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ckplus: Signed agreement .* mien ingest ckplus FOLDER"):
        reproduce.reproduce("ckplus7", tmp_path / "none")


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
    ],
)
def test_wrong_input_is_one_clear_line(lake: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as found:
        reproduce.reproduce("ckplus8", lake, **options)
    assert says in str(found.value)


def test_a_lake_without_the_classes_is_refused(lake: Path, monkeypatch) -> None:
    table = TABLES["ckplus8"]
    monkeypatch.setattr(
        reproduce,
        "table_named",
        lambda name: reproduce.replace(table, classes=(Expression.ANGER,)),
    )
    with pytest.raises(ValueError, match="has not two of the classes of ckplus8: anger"):
        reproduce.reproduce("ckplus8", lake)


def test_a_lake_without_an_official_split_says_so(lake: Path) -> None:
    with pytest.raises(ValueError, match="no official split"):
        launch.train(catalog.recipe("baseline.tiny"), lake, fold="official")


def test_what_leaks_is_refused_or_said(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = reproduce.Lake.open(lake)
    classes = [Expression(name) for name in opened.manifest.classes]
    assert reproduce._leaks(opened, 2, classes, allow=False) == []
    pair = reproduce.feed.split(opened, "1/2", tuple(classes))
    torn = Leaks(copies=((int(pair.train_rows[0]), int(pair.test_rows[0])),), subjects=())
    monkeypatch.setattr("trainer.leakage.leaks_of", lambda lake, split: torn)
    with pytest.raises(ValueError, match="--allow-leaks"):
        reproduce.reproduce("ckplus8", lake, folds=2)
    (said,) = reproduce._leaks(opened, 2, classes, allow=True)
    assert said.startswith("leaks in fold 1/2: ") and "fold 2/2" in said


def test_the_corpora_of_the_tables_have_the_names_that_are_said() -> None:
    known = {table.corpus for table in TABLES.values()} & set(corpora.names())
    assert {"ckplus", "oulu_casia"} <= known
