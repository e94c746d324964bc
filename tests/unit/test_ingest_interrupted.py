"""An ingest that dies at any change it makes on the disk, and is started again, ends alike."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_service import corpora
from data_service.alignment.align import Aligner
from data_service.corpora import drawn
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from tests.corpora import mmi

CHANGES = ("replace", "unlink", "rmdir")
"""What an ingest changes the disk by; `shutil.rmtree` is made of the last two."""
SIDE, DRAFT = 32, ".draft"


class Died(BaseException):
    """What no code catches, as none runs in a process that is killed."""


@pytest.fixture(autouse=True)
def no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Aligner, "find", lambda self, image_HW3: ("centre", None))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn faces, which are two blocks, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("photographs")
    scan = drawn.scan(None, subjects=5, faces_per_subject=8, size=48)
    lines = ["file,subject,expression", "text.png,s,fear"]
    (folder / "text.png").write_bytes(b"no picture")
    for index, (face, pixels) in enumerate(zip(scan.faces, drawn.images(scan.faces), strict=True)):
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{face.subject},{face.expression}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def contents(lake: Path) -> dict[str, bytes]:
    """All files of a lake, but for drafts that the dead have left."""
    files = (path for path in lake.rglob("*") if path.is_file() and path.suffix != DRAFT)
    return {str(path.relative_to(lake)): path.read_bytes() for path in files}


def dies(number: int, work: Callable[[], Any]) -> bool:
    """Whether the work dies before its change of the disk of that number; none follows it."""
    made = itertools.count()

    def guarded(change: Callable[..., Any]) -> Callable[..., Any]:
        def only_before(*told: Any, **options: Any) -> Any:
            if next(made) >= number:
                raise Died
            return change(*told, **options)

        return only_before

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, guarded(getattr(os, name)))
        patch.setattr(os, "getpid", lambda: 7)  # who goes on is another process
        try:
            work()
        except Died:
            died = True
        else:
            died = False
    gc.collect()  # the dead let go of their lock
    return died


def after_every_death(
    folder: Path, make: Callable[[Path], Any], before: Path | None = None
) -> Iterator[tuple[Path, Path]]:
    """Lakes that were begun and left at every change of the disk, with one made undisturbed.

    Each stands where there was nothing, or a copy of the lake `before`.
    """
    alone = folder / "alone"
    make(alone)
    for number in itertools.count():
        lake = folder / f"{number}"
        if before is not None:
            shutil.copytree(before, lake)
        if not dies(number, partial(make, lake)):
            assert contents(lake) == contents(alone)
            assert number > 10, "an ingest changes the disk more often"
            return
        yield lake, alone


def test_who_goes_on_makes_the_lake_that_nobody_disturbed(
    photographs: Path, tmp_path: Path
) -> None:
    make = partial(ingest, "photos", photographs, image_size=SIDE)
    for lake, alone in after_every_death(tmp_path, lambda lake: make(lake=lake)):
        make(lake=lake)
        assert contents(lake) == contents(alone), f"after a death before change {lake.name}"
        assert not list(lake.rglob(f"*{DRAFT}"))


@pytest.mark.slow
def test_a_lake_is_whole_until_its_successor_is(photographs: Path, tmp_path: Path) -> None:
    """The old one has two faces more."""
    older = tmp_path / "older"
    shutil.copytree(photographs, older)
    make = partial(ingest, "photos", image_size=SIDE)
    make(older, tmp_path / "before")
    table = older / "labels.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-2]))
    states = []
    deaths = after_every_death(tmp_path, partial(make, older), tmp_path / "before")
    for lake, alone in deaths:
        left = Lake.open(lake)
        left.verify()
        states.append(len(left))
        make(older, lake)
        assert contents(lake) == contents(alone), f"after a death before change {lake.name}"
    assert states == sorted(states, reverse=True) and set(states) == {40, 38}


@pytest.mark.slow
def test_so_does_who_goes_on_with_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of one film stay in one block; there are several."""
    monkeypatch.setattr("data_service.ingest_blocks.CHUNK_FACES", 8)
    source = mmi.build(tmp_path / "source")
    scan = corpora.scan("mmi", source, {}, image_size=SIDE)
    assert len(scan.faces) > 24
    make = partial(ingest, "mmi", source, image_size=SIDE, scan=scan)
    for lake, alone in after_every_death(tmp_path, lambda lake: make(lake=lake)):
        make(lake=lake)
        assert contents(lake) == contents(alone), f"after a death before change {lake.name}"
