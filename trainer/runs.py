"""Runs on disk: which there are, how they stand, and how one is asked to stop."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

from cluster.home import runs_dir
from cluster.lock import is_held
from trainer import job as jobs

LOST_AFTER_SECONDS = 300.0


def rows() -> list[dict[str, Any]]:
    """All runs as plain values, the oldest first. One without a process or a status is `lost`."""
    found = []
    for settings in jobs.records():
        with contextlib.suppress(ValueError):
            found.append(_row(settings, Path(settings["directory"])))
    return sorted(found, key=lambda values: values["created"])


def row(directory: Path) -> dict[str, Any]:
    """How one run stands; ValueError where its run.json is none."""
    return _row(jobs.read_json(directory / "run.json"), directory)


def _row(settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    with jobs.as_written(directory / "run.json"):
        return _told(settings, _status(directory, settings["created"]), directory)


def _status(directory: Path, created: float) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        status = jobs.read_json(directory / "status.json")
        if status.keys() >= {"state", "pid", "host", "updated"}:
            return status
    return {"state": "lost", "updated": created}


def _told(settings: dict[str, Any], status: dict[str, Any], directory: Path) -> dict[str, Any]:
    return {
        "run_id": settings["run_id"],
        "system": f"{settings['run']['system_name']}.{settings['run']['recipe']}",
        "fold": settings["fold"],
        "experiment": settings["experiment"],
        "parent": settings["parent"],
        "state": _state(status, directory),
        "images": status.get("images", 0),
        "total_images": status.get("total_images"),
        "images_per_second": status.get("images_per_second"),
        "workers": status.get("workers"),
        "created": settings["created"],
        "updated": status["updated"],
        "directory": str(directory),
    }


def _state(status: dict[str, Any], directory: Path) -> str:
    """As the run says, unless it says that it goes on and its process is no more.

    Whoever trains it holds its lock throughout. Where that cannot be seen from here, the process
    that wrote the status is looked for, or, of another machine, how long ago that was.
    """
    if status["state"] not in jobs.LIVE:
        return status["state"]
    alive = is_held(directory / "lock")
    if not alive and status["host"] == socket.gethostname():
        alive = Path(f"/proc/{status['pid']}").exists()
    elif not alive:
        alive = time.time() - status["updated"] < LOST_AFTER_SECONDS
    return status["state"] if alive else "lost"


def stop(run: str, *, wait_seconds: float = 120.0) -> dict[str, Any]:
    """Ask a run to save a checkpoint and end, and wait until it has; how it stands then.

    ValueError when it is not running. TimeoutError when it has not ended in time.
    """
    directory = jobs.find(run)
    state = row(directory)["state"]
    if state not in jobs.LIVE:
        raise ValueError(f"run {directory.name} is not running; it is {state}")
    (directory / "stop").touch()
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        values = row(directory)
        if values["state"] not in jobs.LIVE and not is_held(directory / "lock"):
            return values
        time.sleep(0.2)
    raise TimeoutError(f"run {directory.name} has not ended within {wait_seconds:.0f} s")


def images_done(created: float) -> tuple[int, int] | None:
    """Images done and wanted by the newest run that went on after `created`.

    Only runs whose status was written since are looked at: there may be thousands of others.
    """
    own = []
    for path in runs_dir().glob("*/status.json"):
        with contextlib.suppress(ValueError, FileNotFoundError):
            if path.stat().st_mtime >= created:
                own.append(row(path.parent))
    live = [values for values in own if values["state"] in jobs.LIVE and values["total_images"]]
    newest = max(live, key=lambda values: values["created"], default=None)
    return (newest["images"], newest["total_images"]) if newest else None
