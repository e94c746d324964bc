"""Oulu-CASIA in miniature: one camera and light."""

from pathlib import Path

from data_service.corpora.oulu_casia import FOLDERS
from data_service.schema import Expression
from tests.corpora.pictures import face, write


def build(root: Path) -> Path:
    return _build(root, root / "B_OriginalImg" / "VL" / "Strong")


def build_cropped(root: Path) -> Path:
    """The delivery whose faces the owners cut out."""
    return _build(root, root / "C_PreProcess Img" / "VL_Acropped" / "Strong")


def _build(root: Path, light: Path) -> Path:
    write(light / "Thumbs.db", "")
    for subject in range(1, 5):
        for name in ("Anger", "Happiness", "Surprise"):
            folder = light / f"P{subject:03d}" / name
            for frame in range(5):
                shown = FOLDERS[name.lower()] if frame > 1 else Expression.NEUTRAL
                write(folder / f"{frame:03d}.jpeg", face(subject, shown, frame))
    return root
