"""Run a campaign; see the package."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.chaos import table
from benchmarks.chaos.faults import FAULTS
from benchmarks.chaos.runner import Outcome, References, StoodStillError, run_fault
from benchmarks.chaos.trial import REPOSITORY


def main() -> None:
    """The faults in turn, with one seed after the other; exit 1 where an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="*", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--seconds", type=float, default=math.inf, help="Begin no run after that.")
    parser.add_argument("--work", type=Path, help="Where lake and undisturbed runs are kept.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks/results/chaos.json")
    given = parser.parse_args()
    broken, end = False, time.monotonic() + given.seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="mien-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's own account must be able to enter
        references = References(folder=given.work or folder / "undisturbed")
        references.folder.mkdir(parents=True, exist_ok=True)
        for seed in range(given.seed, given.seed + given.rounds):
            for fault in given.faults:
                if (fault, seed) in table.known(given.out) or time.monotonic() > end:
                    continue
                outcome = _run(fault, seed, references, folder)
                table.add(given.out, outcome)
                print(json.dumps(asdict(outcome)), flush=True)
                broken = broken or bool(outcome.broken)
    sys.exit(broken)


def _run(fault: str, seed: int, references: References, folder: Path) -> Outcome:
    """The run, in a home that none had before; anew where the machine stood still during it."""
    while True:
        home = Path(tempfile.mkdtemp(dir=folder)) / "home"
        home.parent.chmod(0o711)
        try:
            return run_fault(fault, seed, references, home)
        except StoodStillError as error:
            print(f"{fault}, seed {seed}: {error}", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(home.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
