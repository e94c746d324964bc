"""Every visible file of a source is a face, or rejected, or one that its module leaves alone."""

import importlib
import os
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from data_service import corpora
from data_service.corpora._files import is_picture
from data_service.corpora._sequences import apex_frames, labelled_frames
from data_service.schema import Expression
from tests.corpora.pictures import write

EVERYTHING = {
    "bu4dfe": {"clips": True},
    "ckplus": {"clips": True},
    "mmi": {"clips": True},
    "oulu_casia": {"clips": True},
}
"""Options by which what lies there is taken."""
OTHERS = [
    ("affectnet", "build_second"),
    ("fer2013", "build_challenge"),
    ("fer2013", "build_folders"),
    ("ferplus", "build_generated"),
    ("oulu_casia", "build_cropped"),
    ("rafdb", "build_folders"),
]
BESIDE_PARTS = {
    ("affectnet", "build"): "Extra/9",
    ("affectnet", "build_second"): "test_set/images",
    ("sfew", "build"): "Extra/Angry",
    ("fer2013", "build_folders"): "extra/happy",
    ("ferplus", "build"): "FER2013Extra",
    ("ferplus", "build_generated"): "FER2013Extra",
    ("rafdb", "build_folders"): "DATASET/extra/1",
}
"""A folder of pictures beside the parts, where a tree has parts."""
TREES = [(name, "build") for name in corpora.names() if name != "drawn"] + OTHERS


@pytest.mark.parametrize(("name", "build"), TREES)
def test_every_file_is_a_face_or_told(name, build, tmp_path):
    source = getattr(importlib.import_module(f"tests.corpora.{name}"), build)(tmp_path / "source")
    options = EVERYTHING.get(name, {})
    faces = corpora.scan(name, source, options).faces
    beside = {face.path.parent for face in faces if is_picture(face.path)}
    for folder in sorted(beside)[:2]:
        for stray in ("stray.webp", "stray"):
            write(folder / stray, b"picture")
    if extra := BESIDE_PARTS.get((name, build)):
        for stray in ("1.png", "stray.webp", "../1.png"):
            write(source / extra / stray, b"picture")
    scan = corpora.scan(name, source, options)
    taken = {face.path for face in scan.faces}
    told = {one.name for one in scan.rejected}
    left_alone = getattr(corpora.load(name), "LEFT_ALONE", ())
    for path in visible_files(source):
        relative = path.relative_to(source).as_posix()
        alone = any(fnmatch(relative, pattern) for pattern in left_alone)
        assert path in taken or alone or is_told(relative, told), relative


def test_what_another_option_takes_is_not_told(tmp_path):
    source = importlib.import_module("tests.corpora.sfew").build(tmp_path / "sfew")
    for folder in ("Train_Aligned_Faces", "other/Train/Angry"):
        write(source / folder / "1.png", b"picture")
    told = {one.name for one in corpora.scan("sfew", source, {"images": "frames"}).rejected}
    assert "other/Train/Angry/1.png" in told
    assert not any(name.startswith("Train_Aligned_Faces") for name in told)
    source = importlib.import_module("tests.corpora.affectnet").build_second(tmp_path / "affectnet")
    for folder in ("Automatically_Annotated_Images/1", "train_set/annotations/more"):
        write(source / folder / "1.png", b"picture")
    told = {one.name for one in corpora.scan("affectnet", source, {}).rejected}
    assert "train_set/annotations/more/1.png" in told
    assert not any("Automatically" in name for name in told)


def visible_files(source: Path) -> list[Path]:
    found = []
    for folder, _, files in os.walk(source):
        found += [Path(folder) / name for name in files if not name.startswith(".")]
    return found


def is_told(relative: str, told: set[str]) -> bool:
    """By its own name, or that of a folder above it, as seen from the source or from below it."""
    parts = PurePosixPath(relative).parts
    ends = range(1, len(parts) + 1)
    return any("/".join(parts[start:end]) in told for end in ends for start in range(end))


def test_the_peak_is_the_end_or_the_middle():
    fear, none = Expression.FEAR, None
    files = [Path(f"{number}.png") for number in range(4)]
    chosen = labelled_frames(files, fear, frames=4, neutral=True, clips=False)
    assert [label for _, label in chosen] == [Expression.NEUTRAL, fear, fear, fear]

    def frames(numbers, **told):
        given = {"frames": 3, "neutral": False, "clips": False, **told}
        return apex_frames(numbers, fear, **given)

    for count in range(1, 40):
        for wanted in (1, 2, 3, 99):
            taken = min(wanted, max(count // 3, 1))
            first = (count - taken) // 2
            assert list(frames(range(count), frames=wanted)) == [*range(first, first + taken)]
    assert frames([0, 6, 7, 8]) == {}
    assert frames([10, 11, 14, 16, 18]) == {14: fear}
    assert frames(range(3), neutral=True, clips=True) == {0: Expression.NEUTRAL, 1: fear, 2: none}
    assert frames([5], neutral=True) == {5: fear}
