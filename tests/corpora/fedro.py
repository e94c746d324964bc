"""FED-RO in little: folders of expressions within the folder of the archive."""

from __future__ import annotations

from pathlib import Path

from data_service.schema import Expression
from tests.corpora.pictures import face, write


def build(root: Path) -> Path:
    """Seven folders of three pictures, of nobody that is named."""
    for at, expression in enumerate(one for one in Expression if one != Expression.CONTEMPT):
        for number in range(3):
            write(
                root / "FED-RO" / expression.value / f"{number + 1}.jpg",
                face(10 * at + number, expression),
            )
    return root
