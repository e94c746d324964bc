"""Ctrl-C and SIGTERM: what is under way says how it is to be stopped.

A run that trains registers how to ask it for a checkpoint and an end; the command line calls
`interrupt` when a signal comes and then waits. Nothing here touches signal handlers, so that a
program that uses mien as a library keeps its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_stops: list[Callable[[], None]] = []
_lock = threading.Lock()


@contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """During the block, `stop` is called when the process is to end, and returns at once."""
    with _lock:
        _stops.append(stop)
    try:
        yield
    finally:
        with _lock:
            _stops.remove(stop)


def interrupt() -> bool:
    """Asks everything under way to stop; whether there was anything that can."""
    with _lock:
        stops = tuple(_stops)
    for stop in stops:
        stop()
    return bool(stops)
