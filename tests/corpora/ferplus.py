"""FER+ in little: votes beside the table of pixels, or beside the generator's pictures."""

from __future__ import annotations

from pathlib import Path

from data_service.corpora.fer2013 import CODES
from data_service.corpora.ferplus import COLUMNS, FOLDERS, VOTED
from tests.corpora import fer2013
from tests.corpora.pictures import face, write

HEADER = ",".join(("Usage", "Image name", *COLUMNS))
AGREED, TORN, SLIPS, UNKNOWN = range(4)


def votes(code: int, kind: int = AGREED) -> list[int]:
    """Ten votes for a code of FER2013, more or less of one mind."""
    counts = [0] * len(COLUMNS)
    own = VOTED.index(CODES[code])
    other = (own + 1) % len(VOTED)
    if kind == AGREED:
        counts[own], counts[other], counts[8] = 7, 2, 1
    elif kind == TORN:
        counts[own], counts[other], counts[(own + 2) % len(VOTED)] = 4, 3, 3
    elif kind == SLIPS:
        counts = [1] * len(COLUMNS)
    else:
        counts[8], counts[own] = 7, 3
    return counts


def kind_of(number: int) -> int:
    """Some rows of each kind."""
    return {7: TORN, 13: SLIPS, 19: UNKNOWN}.get(number, AGREED)


def build(root: Path) -> Path:
    fer2013.build(root)
    lines, file = [HEADER], 0
    for number, code, usage in fer2013.listed():
        name = "" if number == 14 else f"fer{file:07d}.png"
        file += bool(name)
        told = [0] * 9 + [10] if number == 14 else votes(code, kind_of(number))
        lines.append(",".join((usage, name, *map(str, told))))
    for name in ("fer0000090.png", "fer0000091.png"):
        lines.append(",".join(("Training", name, *map(str, votes(3)))))
    write(root / "fer2013" / "fer2013new.csv", "\n".join(lines) + "\n")
    return root


def build_generated(root: Path, *, labels: bool = True) -> Path:
    """What the published generator writes; without labels, beside the table of votes."""
    lines = {usage: [] for usage in FOLDERS}
    rows = [HEADER]
    for file, (number, code, usage) in enumerate(fer2013.listed()):
        name, told = f"fer{file:07d}.png", list(map(str, votes(code, kind_of(number))))
        write(root / FOLDERS[usage] / name, face(number, CODES[code], size=48))
        lines[usage].append(",".join((name, '"(0, 0, 48, 48)"', *told)))
        rows.append(",".join((usage, name, *told)))
    if labels:
        for usage, folder in FOLDERS.items():
            write(root / folder / "label.csv", "\n".join(lines[usage]) + "\n")
    else:
        write(root / "fer2013new.csv", "\n".join(rows))
    return root
