"""One process at a time: a lock that goes with the process that holds it; a file made by one."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import IO

ASKED_SECONDS = 0.2
"""Who asks whether a lock is held keeps it for far less."""
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system answers that has no hard links."""
ONCE = ".once.lock"


class BusyError(ValueError):
    """Another process holds the lock."""


def held(path: Path, busy: str | None = None) -> IO[str]:
    """The open lock file at `path`; closing it, as a `with` block does, gives the lock back.

    Where another process holds it: BusyError, which says `busy`; without `busy` it waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    if busy is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return file
    until = time.monotonic() + ASKED_SECONDS
    while not _taken(file, fcntl.LOCK_EX):
        if time.monotonic() > until:
            file.close()
            raise BusyError(busy)
        time.sleep(0.01)
    return file


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at `path`, as far as it can be told from here.

    A file system that does not tell machines of one another's locks says no of those of others.
    """
    try:
        with path.open() as file:
            return not _taken(file, fcntl.LOCK_SH)
    except OSError:  # there is no such file, or no locks on this file system
        return False


def put_once(draft: Path, path: Path) -> None:
    """Gives a finished file its name, unless another has it already, which then stays.

    Whoever comes first, `path` is there wholly or not at all, and never changes; the draft goes. It
    is linked; on a file system without hard links renamed, under a lock in the same folder.
    """
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with held(path.with_name(ONCE)):
            if not path.exists():
                os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _taken(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
