"""What a run has to tell, written down before it is told: a journal of one line per entry.

A process may be killed between any two lines. What was logged for a step counts only once a
checkpoint holds that step: entries are open until then, and open entries of steps that are trained
again are forgotten.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainer.tracking.journal import Journal

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of one metric."""

    key: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One picture of a series; `file` lies in the outbox' folder until it is sent."""

    key: str
    file: str
    step: int
    time_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file or folder to be shown with the run; it belongs to no step."""

    path: str
    folder: str | None


Entry = Point | Picture | File
KINDS: Mapping[str, type[Entry]] = {"point": Point, "picture": Picture, "file": File}


class Outbox:
    """The journal at `path`, and what of it is open, due to be sent, or was due before.

    `due` holds committed entries in order; whoever sends them takes them off. A point of a key and
    step that was committed before is not taken again, so a step that is trained twice is told once.
    Two threads may use an outbox: one that writes and one that sends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.due: deque[Entry] = deque()
        self.lock = threading.RLock()
        self._open: dict[tuple[str, str, int], Point | Picture] = {}
        self._committed: set[tuple[str, str, int]] = set()
        self._journal = Journal(path)
        self._replay()

    @property
    def pictures_dir(self) -> Path:
        """Where pictures wait to be sent."""
        return self.path.with_suffix(".pictures")

    def add(self, entries: list[Entry]) -> None:
        """Write entries down: they survive the process; after `sync` they survive the machine."""
        with self.lock:
            for entry in entries:
                if isinstance(entry, File) or self.is_new(entry):
                    kind = next(name for name, known in KINDS.items() if isinstance(entry, known))
                    self._journal.add({"kind": kind, **asdict(entry)})
                    self._take(entry)
            self._journal.flush()

    def commit(self, step: int) -> None:
        """What was logged up to `step` is certain: let it be sent, make it durable."""
        with self.lock:
            self._journal.add({"kind": "commit", "step": step})
            self._commit(step)
            self.sync()

    def commit_all(self) -> None:
        """The run has ended: everything that is open is certain."""
        with self.lock:
            if self._open:
                self.commit(max(step for _, _, step in self._open))

    def rollback(self, step: int) -> None:
        """Training goes on after `step`: what was logged up to it counts, the rest is forgotten."""
        with self.lock:
            self._journal.add({"kind": "rollback", "step": step})
            self._rollback(step)
            self.sync()

    def mark_sent(self, file: File) -> None:
        """Remember that a file was sent, so that a restart does not send it again."""
        with self.lock:
            self._journal.add({"kind": "sent", "path": file.path, "folder": file.folder})
            self._journal.flush()

    def mark_all_sent(self) -> None:
        """Remember that nothing is due any more."""
        with self.lock:
            self._journal.add({"kind": "all sent"})
            self._journal.flush()

    def sync(self) -> None:
        """Force the journal to the disk."""
        with self.lock:
            self._journal.sync()

    def close(self) -> None:
        """Close the file; what is due stays in it for the next outbox of this path."""
        with self.lock:
            self._journal.close()

    def is_new(self, entry: Point | Picture) -> bool:
        """Whether nothing of that kind, key and step is committed yet."""
        return _name(entry) not in self._committed

    def holds(self, key: str, step: int) -> bool:
        """Whether a point of that key and step is committed."""
        return (Point.__name__, key, step) in self._committed

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, File):
            self.due.append(entry)
        else:
            self._open[_name(entry)] = entry

    def _commit(self, step: int) -> None:
        ready = {name: entry for name, entry in self._open.items() if name[2] <= step}
        for name in ready:
            del self._open[name]
            self._committed.add(name)
        self.due.extend(ready.values())

    def _rollback(self, step: int) -> None:
        self._commit(step)
        for entry in self._open.values():
            if isinstance(entry, Picture):
                (self.pictures_dir / entry.file).unlink(missing_ok=True)
        self._open.clear()

    def _replay(self) -> None:
        for number, record in enumerate(self._journal.lines(), 1):
            try:
                self._apply(record)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise self._journal.damaged(number) from None

    def _apply(self, record: dict[str, Any]) -> None:
        kind = record.pop("kind")
        if kind == "commit":
            self._commit(record["step"])
        elif kind == "rollback":
            self._rollback(record["step"])
        elif kind == "all sent":
            self.due.clear()
        elif kind == "sent":
            with suppress(ValueError):
                self.due.remove(self._here(File(**record)))
        elif self._is_own(entry := self._here(KINDS[kind](**record))):
            self._take(entry)
        else:
            LOG.error("%s names a file that is not the run's: %s", self.path, entry)

    def _here(self, entry: Entry) -> Entry:
        """A file of the run where the run's folder lies now: its home may have moved."""
        folder = self.path.parent
        if not isinstance(entry, File) or folder.name not in (parts := Path(entry.path).parts):
            return entry
        below = parts[len(parts) - parts[::-1].index(folder.name) :]
        return replace(entry, path=str(folder.joinpath(*below)))

    def _is_own(self, entry: Entry) -> bool:
        """Whether the file that it names, if any, is the run's: a stranger's journal names others.

        What is named is sent, and pictures are then deleted.
        """
        if isinstance(entry, Picture):
            return Path(entry.file).name == entry.file
        folder = self.path.parent.resolve()
        return isinstance(entry, Point) or Path(entry.path).resolve().is_relative_to(folder)


def _name(entry: Point | Picture) -> tuple[str, str, int]:
    return (type(entry).__name__, entry.key, entry.step)


def now_ms() -> int:
    """The time that MLflow shows, in milliseconds."""
    return time.time_ns() // 1_000_000
