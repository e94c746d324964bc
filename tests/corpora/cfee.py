"""CFEE in little, with the index that its user writes."""

from __future__ import annotations

from pathlib import Path

from data_service.corpora.cfee import BASIC, COMPOUND
from data_service.schema import Expression
from tests.corpora.pictures import face, write


def build(root: Path) -> Path:
    """Six subjects in the basic categories and in two compound ones; one listed picture is gone."""
    lines = ["file,subject,category"]
    for person in range(6):
        for category, expression in BASIC.items():
            name = f"images/{person:03d}/{category}.jpg"
            write(root / name, face(person, expression))
            lines.append(f"{name},{person:03d},{category}")
        for category in COMPOUND[:2]:
            name = f"images/{person:03d}/{category.replace(' ', '_')}.jpg"
            write(root / name, face(person, Expression.SURPRISE, 1))
            lines.append(f"{name},{person:03d},{category.title().replace(' ', '_')}")
    lines.append("images/006/happy.jpg,006,happy")
    write(root / "index.csv", "\r\n".join(lines))
    return root
