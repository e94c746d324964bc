"""One process at a time: a lock that goes with the process that holds it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


def held(path: Path, busy: str | None = None) -> IO[str]:
    """The open lock file at `path`; closing it, as a `with` block does, gives the lock back.

    Where another process holds it: ValueError, which says `busy`; without `busy` it waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if busy is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(busy) from None
    return file
