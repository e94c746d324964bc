"""A comparison as table, JSON, CSV, LaTeX and page."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from cluster.mlflow_store import ensure_store
from tests.compared import crossvalidated, data_of, record
from tuning import report
from tuning.compare import compare
from tuning.details import curve_of
from tuning.page import embedded, page
from tuning.publish import publish


def test_the_table_the_json_and_the_csv_tell_the_same(ranked):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(report.table(ranked))
    text = console.export_text()
    assert all(word in text for word in ("fersnet.tiny", "tie", "behind", "480 faces", "all pairs"))
    plain = json.loads(json.dumps(report.as_json(ranked)))
    (*_, last) = csv.DictReader(io.StringIO(report.csv(ranked)))
    assert float(last["macro_recall"]) == plain["blocks"][0]["rows"][-1]["macro_recall"]["value"]
    assert last["verdict"] == "behind"


def test_latex_names_ties_and_escapes(ranked, store):
    text = report.latex(ranked)
    assert text.count(r"\begin{tabular}") == 1 and "(tie)" in text and "jackknife" in text
    crossvalidated(store, "odd", "a_b%c", 0.9)
    assert r"a\_b\%c" in report.latex(compare(store, "odd"))
    trial = {"kind": "fold", "metrics": {"validation/macro_recall": 0.5}}
    record(store, "untested", "fersnet", **trial)
    with pytest.raises(ValueError, match="nothing to say"):
        report.latex(compare(store, "untested"))


def test_the_page_has_everything_in_it_and_is_kept(store, tmp_path):
    crossvalidated(store, "paged", "fersnet", 0.9, metrics={"validation/macro_recall": 0.8})
    found = compare(store, "paged")
    for _ in range(2):
        publish(store, found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "http" not in text.replace("http-equiv", "") and "src=" not in text
    data = data_of(text)
    (row,) = data["rows"]
    assert row["confusion"]["classes"] and row["curves"]["validation/macro_recall"]["mean"] == [0.8]
    assert sum(map(sum, row["confusion"]["counts"])) == 480
    client = ensure_store(store)
    runs = client.search_runs([client.get_experiment_by_name("paged").experiment_id])
    (kept,) = [run for run in runs if run.data.tags["mien.kind"] == "comparison"]
    assert [item.path for item in client.list_artifacts(kept.info.run_id)] == ["page.html"]
    assert compare(store, "paged").blocks[0].rows == found.blocks[0].rows
    with pytest.raises(ValueError, match="no folder"):
        publish(store, found, tmp_path / "none" / "page.html")


def test_curves_of_folds_are_one_with_a_band():
    curve = curve_of([{0: 0.0, 10: 1.0}, {0: 0.2, 5: 0.4, 10: 0.6}, {0: math.nan}])
    assert curve.x == (0, 5, 10)
    assert curve.mean == pytest.approx((0.1, 0.45, 0.8))
    assert curve.low == (0.0, 0.4, 0.6) and curve.high == (0.2, 0.5, 1.0)
    assert curve_of([{}]) is None


def test_no_name_of_an_experiment_takes_the_place_of_a_part_of_the_page(ranked):
    rows = data_of(page(ranked, {}))["rows"]
    for name in ("{{data}}", "{{title}} {{script}}", "{{none}}"):
        text = page(replace(ranked, experiment=name), {})
        assert f"<title>{name}: comparison</title>" in text
        found = data_of(text)
        assert found["title"] == f"{name}: comparison" and found["rows"] == rows


def test_what_stands_in_a_script_cannot_end_it():
    assert embedded({"a": "</script>"}) == '{"a":"\\u003c/script>"}'
