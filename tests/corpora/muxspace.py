"""A clone of muxspace/facial_expressions in miniature."""

from pathlib import Path

from data_service.schema import Expression
from tests.corpora.pictures import face, write


def build(root: Path) -> Path:
    lines = ["user.id,image,emotion"]
    for subject in range(5):
        for number, expression in enumerate(("anger", "happiness", "neutral"), start=1):
            file = f"Jane_Doe{subject}_{number:04d}.jpg"
            write(root / "images" / file, face(subject, Expression(expression)))
            lines.append(f"{subject},{file},{expression}")
    write(root / "data" / "legend.csv", "\n".join(lines))
    return root
