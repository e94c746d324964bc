"""A lock can be asked about without anyone being turned away; a run whose lock is held is alive."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import lock
from tests.made_runs import recorded
from trainer import catalog, job, runs

NO_PROCESS = 2**22 + 1


def test_a_lock_tells_whether_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lock.is_held(path) and not path.exists()
    with lock.held(path, "taken"):
        assert lock.is_held(path)
        with pytest.raises(ValueError, match="taken"):
            lock.held(path, "taken")
    assert not lock.is_held(path)


def test_who_only_asks_turns_nobody_away(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with path.open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        answered = threading.Timer(0.05, lambda: fcntl.flock(asking, fcntl.LOCK_UN))
        answered.start()
        lock.held(path, "taken").close()
        answered.join()


def test_a_file_system_without_locks_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*given: object) -> None:
        raise OSError(37, "No locks available")

    (tmp_path / "lock").touch()
    monkeypatch.setattr(fcntl, "flock", refuses)
    assert not lock.is_held(tmp_path / "lock")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_without_links_a_file_is_put_in_its_place_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*given: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuses)
    path, drafts = tmp_path / "file", [tmp_path / f"draft {index}" for index in range(20)]
    for draft in drafts:
        draft.write_text(draft.name * 1000)
    seen: list[str] = []

    def put(draft: Path) -> None:
        lock.put_once(draft, path)
        seen.append(path.read_text())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, drafts))
    assert len(set(seen)) == 1 and seen[0] in {draft.name * 1000 for draft in drafts}
    assert {file.name for file in tmp_path.iterdir()} == {"file", lock.ONCE}


def test_what_keeps_a_file_from_its_place_is_told_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    (tmp_path / "draft").touch()
    with pytest.raises(OSError, match="No space left"):
        lock.put_once(tmp_path / "draft", tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "last", [{"pid": NO_PROCESS}, {"host": "elsewhere", "updated": time.time() - 3600}]
)
def test_a_run_whose_lock_is_held_is_alive(last: dict[str, object]) -> None:
    """Though its first worker is being started again, or it has not told of itself for an hour."""
    directory = recorded(catalog.recipe("baseline.tiny")).directory
    job.set_status(directory, "running", step=1, images=32, total_images=96)
    job.write_json(directory / "status.json", job.read_json(directory / "status.json") | last)
    with lock.held(directory / "lock", "taken"):
        assert runs.row(directory)["state"] == "running"
        with pytest.raises(TimeoutError):
            runs.stop("aaaa", wait_seconds=0.1)
        threading.Timer(0.1, job.set_status, (directory, "stopped"), {"images": 32}).start()
        with pytest.raises(TimeoutError):  # it says so, and holds the lock until all is told
            runs.stop("aaaa", wait_seconds=0.8)
        job.set_status(directory, "running", step=1, images=32, total_images=96)
        job.write_json(directory / "status.json", job.read_json(directory / "status.json") | last)
        assert (directory / "stop").exists()
    assert runs.row(directory)["state"] == "lost"
    with pytest.raises(ValueError, match="is not running; it is lost"):
        runs.stop("aaaa")
