"""A file of JSON lines that is only ever added to, on disks that fill and in processes that die."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)


class Journal:
    """The lines of the file at `path`: those that are there first, then what is added.

    What the disk refuses waits in memory and is written before anything else the next time, so no
    line is ever lost in the middle or torn by a full disk.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._waiting = bytearray()
        self._file = path.open("ab", buffering=0)

    def lines(self) -> Iterator[dict[str, Any]]:
        """What the file holds; a last line that was cut off is dropped first, which the log says.

        ValueError at a line that is none.
        """
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if cut := len(content) - len(whole):
            LOG.warning("%s: its last line was cut off; %d bytes are dropped", self.path, cut)
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                raise self.damaged(number) from None

    def damaged(self, number: int) -> ValueError:
        """What is raised at the line of that number, from 1, and says what to do."""
        return ValueError(
            f"line {number} of {self.path} is damaged; take it out, and --resume goes on: all that "
            "is lost is what that line was to tell MLflow"
        )

    def add(self, record: Mapping[str, Any]) -> None:
        """A line, to be written with the next `flush`."""
        self._waiting += json.dumps(record, separators=(",", ":")).encode() + b"\n"

    def flush(self) -> None:
        """Write what waits: it survives the process. OSError where the disk refuses."""
        while self._waiting:
            written = self._file.write(self._waiting)
            del self._waiting[:written]

    def sync(self) -> None:
        """As `flush`, and force it to the disk: it survives the machine."""
        self.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, whether or not the disk takes what still waits."""
        try:
            self.sync()
        finally:
            self._file.close()
