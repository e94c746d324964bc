"""An ingest that is killed at any moment, and started again, ends with the same lake."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from PIL import Image

from data_service import rows
from data_service.corpora import drawn
from data_service.ingest import ingest
from data_service.lakes.lake import Lake

SUBJECTS, FACES = 4, 36
PROGRAM = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from cluster.session import connect
from data_service.ingest import ingest
started = lambda done, total: print(done, flush=True)
with connect(num_cpus=2) if sys.argv[3:] == ["ray"] else nullcontext():
    report = ingest("photos", Path(sys.argv[1]), Path(sys.argv[2]), image_size=32, progress=started)
print(json.dumps(report.as_json()))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Drawn faces as photographs, one that is none and one that is missing."""
    folder = tmp_path_factory.mktemp("source")
    scan = drawn.scan(None, subjects=SUBJECTS, faces_per_subject=FACES, size=80)
    lines = ["file,subject,expression", "text.png,s,fear"]
    (folder / "text.png").write_bytes(b"no picture")
    for index, (face, pixels) in enumerate(zip(scan.faces, drawn.images(scan.faces), strict=True)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{face.subject},{face.expression}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def alone(source, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """The files of a lake that nobody disturbed, and the seconds that it took."""
    lake = tmp_path_factory.mktemp("alone") / "lake"
    began = time.monotonic()
    assert killed_after(source, lake, None) is None
    return contents(lake), time.monotonic() - began


def contents(lake: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(lake)): path.read_bytes() for path in lake.rglob("*") if path.is_file()
    }


def begun(source: Path, lake: Path, *words: str) -> subprocess.Popen[str]:
    """The ingest in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(source), str(lake), *words]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
    )


def killed_after(source: Path, lake: Path, seconds: float | None) -> int | None:
    """Ingests in a process of its own; kills it after that time, and gives the last progress."""
    process = begun(source, lake)
    assert process.stdout is not None
    done = 0
    try:
        first = process.stdout.readline()  # imports and the start of the detector are over
        done = int(first or 0)
        process.wait(seconds)
        return None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        numbers = [
            int(line) for line in process.stdout.read().split("\n") if line.strip().isdigit()
        ]
        return max([done, *numbers])
    finally:
        process.kill()
        process.wait()


def check(source: Path, alone: tuple[dict[str, bytes], float], lake: Path) -> None:
    """What was killed, or ended before it could be, becomes the lake that nobody disturbed."""
    report = ingest("photos", source, lake, image_size=32)
    assert contents(lake) == alone[0]
    assert report.faces == SUBJECTS * FACES and report.by_reason == {"not an image": 1}


def test_killed_in_the_middle(source, alone, tmp_path):
    assert killed_after(source, tmp_path / "lake", 0.1 * alone[1]) is not None
    check(source, alone, tmp_path / "lake")


@pytest.mark.slow
def test_killed_at_ten_random_moments(source, alone, tmp_path):
    """An ingest that ends before its moment has come makes room for a new one."""
    moments, kills, attempt, last = random.Random(0), 0, 0, 0
    while kills < 10:
        lake = tmp_path / f"lake {attempt}"
        done = killed_after(source, lake, moments.uniform(0, 0.25) * alone[1])
        if done is None:
            assert contents(lake) == alone[0]
            attempt, last = attempt + 1, 0
            continue
        assert done >= last, "finished work was done again"
        kills, last = kills + 1, done
    check(source, alone, lake)


def killed_on_ray(source: Path, lake: Path, *, when_done: int) -> list[psutil.Process]:
    """Ingests on a Ray of its own and kills the driver alone, while its workers make rows and it
    has told of so many faces; gives the workers."""
    process = begun(source, lake, "ray")
    assert process.stdout is not None
    try:
        done = 0
        while done < when_done:
            done = int(process.stdout.readline())
        deadline = time.monotonic() + 300
        while not any(is_named(one, "ray::made_rows") for one in below(process)):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        return [one for one in below(process) if is_named(one, "ray::")]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def wait_for_the_end_of(processes: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := [one for one in processes if is_named(one, "ray::")]:
        assert time.monotonic() < deadline, f"{left} outlived the driver"
        time.sleep(0.1)


def is_named(process: psutil.Process, name: str | tuple[str, ...]) -> bool:
    """Not where it has ended."""
    try:
        return " ".join(process.cmdline()).startswith(name)
    except psutil.Error:
        return False


@pytest.mark.slow
def test_on_ray_a_killed_driver_leaves_no_worker_and_the_same_lake(
    source: Path, alone: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    """Killed before its first faces are done, and after; then let be.

    Ray's own agents, which hold no faces, ask for their head for a minute more.
    """
    lake = tmp_path / "lake"
    for when_done in (0, 1):
        processes = killed_on_ray(source, lake, when_done=when_done)
        workers = [one for one in processes if not is_named(one, AGENTS)]
        assert workers
        wait_for_the_end_of(workers, seconds=20)
        wait_for_the_end_of(processes, seconds=90)
    told, _ = begun(source, lake, "ray").communicate(timeout=300)
    report = json.loads(told.splitlines()[-1])
    assert contents(lake) == alone[0]
    assert report["faces"] == SUBJECTS * FACES
    assert report["taken_over"] > 0, "what was finished was done again"


def test_finished_work_is_not_done_again(source, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    made: list[str] = []
    whole = rows.RowMaker.rows

    def counted(self, faces):
        if len(made) >= 64:
            raise KeyboardInterrupt
        made.extend(face.name for face in faces)
        return whole(self, faces)

    monkeypatch.setattr("data_service.rows.RowMaker.rows", counted)
    with pytest.raises(KeyboardInterrupt):
        ingest("photos", source, tmp_path / "lake", image_size=32)
    before = list(made)
    made.clear()
    monkeypatch.setattr("data_service.rows.RowMaker.rows", whole)
    monkeypatch.setattr(
        "data_service.rows.RowMaker.rows",
        lambda self, faces: made.extend(face.name for face in faces) or whole(self, faces),
    )
    report = ingest("photos", source, tmp_path / "lake", image_size=32)
    assert report.taken_over == len(before) == 64
    assert not set(before) & set(made)
    assert len(Lake.open(tmp_path / "lake")) == SUBJECTS * FACES
    np.testing.assert_equal(report.faces, SUBJECTS * FACES)


def test_a_changed_file_or_option_starts_anew(source, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    seen: list[int] = []

    def interrupted(done: int, total: int) -> None:
        seen.append(done)
        if done >= 64:
            raise KeyboardInterrupt

    def start(**options) -> int:
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            ingest("photos", source, tmp_path / "lake", progress=interrupted, **options)
        return seen[0]

    assert start(image_size=32) == 32
    assert start(image_size=32) == 64
    assert start(image_size=24) == 32
    os.utime(source / "3.png", ns=(1, 1))
    assert start(image_size=24) == 32
