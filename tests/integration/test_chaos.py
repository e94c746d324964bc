"""Faults that need no cluster: the run ends with the weights, samples and points it should have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.chaos import invariants
from benchmarks.chaos.faults import FAULTS
from benchmarks.chaos.runner import References, run_fault

pytestmark = pytest.mark.xdist_group("chaos")


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    return References(folder=tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("fault", ["driver killed", "checkpoint torn", "clock jumps"])
def test_a_fault_leaves_no_trace(fault: str, references: References, tmp_path: Path) -> None:
    outcome = run_fault(fault, 0, references, tmp_path / "run")
    assert outcome.broken == []
    assert outcome.recovery_seconds is not None, "no step came after the fault"
    if fault == "checkpoint torn":
        assert outcome.repeated_steps > 0, "the torn checkpoint was gone on from"


def test_a_step_that_is_applied_twice_is_noticed(references: References) -> None:
    """The invariants can fail: a result whose ledger has one step too many is refused."""
    whole = next((references.home_of(FAULTS["driver killed"]) / "runs").iterdir())
    result = whole / "result.json"
    text = result.read_text()
    assert invariants.broken_by_training(whole, whole) == []
    values = json.loads(text)
    result.write_text(json.dumps({**values, "ledger": values["ledger"] + 1}))
    try:
        found = invariants.broken_by_training(whole, whole)
    finally:
        result.write_text(text)
    assert found == ["the ledger is not that of the plan"]
