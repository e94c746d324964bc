"""CFEE, compound facial expressions (Du, Tao, Martinez, PNAS 111(15), 2014).

Deliveries of this corpus differ and none is documented, so it is read by an index that its user
writes: what a category's number means in a copy is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from data_service.corpora._files import existing_folder, listed_faces
from data_service.corpora._tables import table_rows
from data_service.schema import Expression, Scan, SourceFace

NAME = "cfee"
DESCRIPTION = "CFEE: 230 subjects in 22 categories, neutral, 6 basic and 15 compound expressions"
LAYOUT = """\
SOURCE/
  index.csv        file,subject,category
                   images/001/IMG_0423.jpg,001,happily surprised
  images/...
category: neutral happy sad fearful angry surprised disgusted; happily surprised, happily disgusted,
sadly fearful, sadly angry, sadly surprised, sadly disgusted, fearfully angry, fearfully surprised,
fearfully disgusted, angrily surprised, angrily disgusted, disgustedly surprised, appalled, hatred,
awed; write the index from your copy (its numbers are not guessed); option: index=index.csv
a compound picture has no expression; each has its category as an attribute of 1, the others 0"""
BASIC: Mapping[str, Expression] = {
    "neutral": Expression.NEUTRAL,
    "happy": Expression.HAPPINESS,
    "sad": Expression.SADNESS,
    "fearful": Expression.FEAR,
    "angry": Expression.ANGER,
    "surprised": Expression.SURPRISE,
    "disgusted": Expression.DISGUST,
}
COMPOUND = (
    "happily surprised",
    "happily disgusted",
    "sadly fearful",
    "sadly angry",
    "sadly surprised",
    "sadly disgusted",
    "fearfully angry",
    "fearfully surprised",
    "fearfully disgusted",
    "angrily surprised",
    "angrily disgusted",
    "disgustedly surprised",
    "appalled",
    "hatred",
    "awed",
)
CATEGORIES = (*BASIC, *COMPOUND)
LEFT_ALONE = ("index.csv",)
COLUMNS = ("file", "subject", "category")
EXPECTED: Mapping[str, int] = {
    "faces": 5060,
    "subjects": 230,
    **{f"faces/{expression}": 230 for expression in BASIC.values()},
}


def scan(source: Path | None, *, index: str = "index.csv") -> Scan:
    """The pictures that the index lists.

    ValueError for a folder without the index, a missing column or subject, an unknown category.
    """
    source = existing_folder(source, NAME, "a folder with an index: see `mien corpora`")
    table = source / index
    if not table.exists():
        raise ValueError(f"no {index} in {source}; its header must be {','.join(COLUMNS)}")
    return listed_faces(source, table, _rows(source, table), EXPECTED)


def _rows(source: Path, table: Path) -> Iterator[tuple[int, SourceFace]]:
    for line, row in table_rows(source, table, COLUMNS):
        category = " ".join(row["category"].lower().replace("_", " ").split())
        if category not in CATEGORIES:
            raise ValueError(
                f"{table}, line {line}: unknown category '{row['category'][:60]}'; "
                f"valid: {', '.join(CATEGORIES)}"
            )
        if not row["subject"]:
            raise ValueError(f"{table}, line {line}: no subject; {NAME} is divided by subject")
        face = SourceFace(
            name=row["file"],
            subject=row["subject"],
            expression=BASIC.get(category),
            attributes={one: float(one == category) for one in CATEGORIES},
        )
        yield line, face
