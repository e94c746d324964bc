"""A folder of photographs with its table."""

from pathlib import Path

from data_service.schema import Expression
from tests.corpora.pictures import face, write


def build(root: Path) -> Path:
    lines = ["file,subject,expression"]
    for subject in range(5):
        for expression in ("anger", "happiness", "neutral"):
            file = f"images/{subject} {expression}.jpg"
            write(root / file, face(subject, Expression(expression)))
            lines.append(f"{file},s{subject},{expression}")
    write(root / "labels.csv", "\n".join(lines))
    return root
