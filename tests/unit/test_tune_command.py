"""What `mien tune` tells of itself: the forms of --search, and a search that hangs on the clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mien
from cluster import tables
from tests.studies import PLAN, RECALL
from tuning import search
from tuning.commands import ASYNCHRONOUS, NO_TEST
from tuning.ending import _result
from tuning.results import FoldRecord, SearchResult, TrialRecord
from tuning.study import Study

FOUND = SearchResult(
    study="study",
    run_id=None,
    objectives=(RECALL,),
    trials=(
        TrialRecord(
            number=0,
            params={},
            state="COMPLETE",
            folds={1: FoldRecord(values={"macro_recall": 0.5})},
        ),
    ),
    status="finished",
    seconds=1.0,
)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    mien.app(list(words), prog_name="mien", standalone_mode=False)
    return capsys.readouterr().out


def test_the_help_of_search_has_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "tune", "--help").splitlines()
    shown = " ".join(" ".join(lines).replace("│", " ").split())
    for form in ("PATH=LOW:HIGH[:log]", "PATH=a,b,c", "system.gates.*", "if OTHER=VALUE"):
        assert form in shown, form


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_table_and_json_say_that_a_search_was_asynchronous(
    asynchronous: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = replace(FOUND, asynchronous=asynchronous)

    def found(*arguments: Any, asynchronous: bool, **options: Any) -> SearchResult:
        assert asynchronous == result.asynchronous
        return result

    monkeypatch.setattr(search, "search", found)
    words = ["tune", "baseline.tiny", "--lake", str(tmp_path), "--trials", "1"]
    words += ["--asynchronous"] if asynchronous else []
    assert (ASYNCHRONOUS in said(capsys, *words)) == asynchronous
    mien.app([*words, "--folds", "5"], prog_name="mien", standalone_mode=False)
    assert NO_TEST in " ".join(capsys.readouterr().err.split())
    assert f'"asynchronous": {str(asynchronous).lower()}' in said(capsys, *words, "--json")


@pytest.mark.parametrize("unseen", ["1/10", None])
def test_the_command_that_is_told_for_the_best_can_be_run(unseen: str | None) -> None:
    result = replace(FOUND, unseen=unseen)
    *_, best = tables.study(result.as_json())
    assert "mien train --from-study study" in best
    assert ("--allow-leaks" in best) == (unseen is None)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_result_of_a_study_knows_its_order(asynchronous: bool, tmp_path: Path) -> None:
    study = Study(tmp_path / "a.db", replace(PLAN, asynchronous=asynchronous), trials=1)
    try:
        assert _result(study).asynchronous == asynchronous
    finally:
        study.close()
