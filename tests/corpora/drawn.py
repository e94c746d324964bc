"""The corpus that draws its faces itself has no tree; this is how few it draws here."""

from pathlib import Path

OPTIONS = {"subjects": 4, "faces_per_subject": 8}


def build(root: Path) -> None:
    return None
