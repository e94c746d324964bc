"""A run of mien as seen from outside: its driver, its folder, and each step that it tells of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

REPOSITORY = Path(__file__).parents[2]
GIVE_UP_SECONDS = 600.0
POLL_SECONDS = 0.05
STOOD_STILL_SECONDS = 5.0
_MIEN = """
import pathlib, sys, time
clock, file = time.time, pathlib.Path(sys.argv.pop(1))
time.time = lambda: clock() + float(file.read_text() if file.exists() else 0)
import mien
mien.main()
"""


class Told(NamedTuple):
    """A step, and host and process of rank 0, as the status file showed them at a time."""

    time: float
    host: str
    process: int
    step: int

    @property
    def attempt(self) -> tuple[str, int]:
        """Who trained: another one after each restart."""
        return self.host, self.process


@dataclass(kw_only=True, slots=True, eq=False)
class Trial:
    """One command of mien with a home of its own; `watched` is the run, by age, that is looked at.

    `begin` are the arguments that start it, `again` those that go on with it; by default what
    resumes the run.
    """

    home: Path
    begin: tuple[str, ...]
    again: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    watched: int = 0
    driver: subprocess.Popen[bytes] | None = None
    told: list[Told] = field(default_factory=list)
    looked: float | None = None
    stood_still_seconds: float = 0.0
    """The longest that nobody came to look: the machine was stopped, and times say nothing."""

    @property
    def folder(self) -> Path | None:
        """The watched run's directory, once it has one."""
        found = sorted(self.home.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime)
        return found[self.watched].parent if len(found) > self.watched else None

    @property
    def clock_file(self) -> Path:
        """Where the command reads by how many seconds its clock is off."""
        return self.home / "clock"

    @property
    def errors(self) -> str:
        """What the command said on its standard error."""
        path = self.home / "stderr"
        return path.read_text() if path.exists() else ""

    def start(self) -> None:
        """Begin."""
        self._spawn(self.begin)

    def resume(self) -> None:
        """Go on with what is on disk."""
        assert self.folder is not None
        self._spawn(self.again or ("train", "--resume", self.folder.name))

    def _spawn(self, arguments: tuple[str, ...]) -> None:
        self.driver = subprocess.Popen(
            [sys.executable, "-c", _MIEN, str(self.clock_file), *arguments, "--json"],
            cwd=REPOSITORY,
            env=self.full_environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.home / "stderr").open("ab"),
            start_new_session=True,
        )

    @property
    def full_environment(self) -> dict[str, str]:
        """What the command and its helpers are started with."""
        dropped = ("MLFLOW_TRACKING_URI", "MIEN_STUDIES", "RAY_ADDRESS")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        own = {"OMP_NUM_THREADS": "1", "MIEN_HOME": str(self.home)}
        return kept | own | self.environment

    def look(self) -> None:
        """Wait a moment, and note the step that the status file shows, if it is a new one."""
        now = time.monotonic()
        if self.looked is not None and now - self.looked > STOOD_STILL_SECONDS:
            self.stood_still_seconds = max(self.stood_still_seconds, now - self.looked)
        self.looked = now
        seen = self.seen()
        if seen is not None and (not self.told or self.told[-1][1:] != seen):
            self.told.append(Told(time.time(), *seen))
        time.sleep(POLL_SECONDS)

    def seen(self) -> tuple[str, int, int] | None:
        """Host, process and step that the status file shows; None where nothing runs."""
        folder = self.folder
        if folder is not None:
            with suppress(OSError, ValueError, KeyError):
                status = json.loads((folder / "status.json").read_text())
                if status["state"] == "running":
                    return status["host"], status["pid"], status["step"]
        return None

    def watch(self, seconds: float) -> None:
        """Look on for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()

    def call(self, *arguments: str) -> None:
        """Another command of mien on the same home, while the trial is looked at."""
        command = [sys.executable, "-m", "mien", *arguments]
        with (self.home / "calls").open("ab") as said:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=self.full_environment, stdout=said, stderr=said
            )
        while process.poll() is None:
            self.look()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(self.home / 'calls').read_text()}")

    def wait_for_step(self, step: int) -> None:
        """Until the run has told of that step, and has a checkpoint."""
        assert self.driver is not None
        end = time.monotonic() + GIVE_UP_SECONDS
        while not (self.told and self.told[-1].step >= step and self.checkpoints()):
            if self.driver.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"it ended before step {step}: {self.errors}")
            self.look()

    def checkpoints(self) -> list[Path]:
        """The watched run's checkpoints, the oldest first."""
        folder = self.folder
        return sorted(folder.glob("checkpoints/[0-9]*")) if folder else []

    def family(self, name: str = "") -> list[psutil.Process]:
        """The processes below the driver whose command line has `name` in it."""
        assert self.driver is not None
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.driver.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if name in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def finish(self) -> int:
        """Look on until the driver has ended, by itself; its exit code."""
        assert self.driver is not None
        end = time.monotonic() + GIVE_UP_SECONDS
        while self.driver.poll() is None:
            if time.monotonic() > end:
                raise RuntimeError(f"it did not end within {GIVE_UP_SECONDS:.0f} s: {self.errors}")
            self.look()
        return self.driver.returncode

    def end(self) -> None:
        """SIGKILL for the driver and all below it, if they still live."""
        if self.driver is None or self.driver.poll() is not None:
            return
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.driver.kill()
        self.driver.wait()


class PoolTrial(Trial):
    """The filling of a pool below its home: its steps are the batches of faces on disk."""

    def seen(self) -> tuple[str, int, int] | None:
        """The driver, and how many batches there are."""
        batches = len(self.checkpoints())
        return ("", self.driver.pid, batches) if self.driver and batches else None

    def checkpoints(self) -> list[Path]:
        """The finished batches."""
        return sorted(self.home.glob("pool/.parts-*/*.arrow"))


def lives(process: psutil.Process) -> bool:
    """Whether it still runs, or is stopped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
