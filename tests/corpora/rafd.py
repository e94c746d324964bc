"""RaFD in little: models, expressions and gazes of the frontal camera, and files of other names."""

from __future__ import annotations

from pathlib import Path

from data_service.corpora.rafd import EXPRESSIONS
from tests.corpora.pictures import face, write

MODELS = (1, 2, 28, 32, 63)


def build(root: Path) -> Path:
    for model in MODELS:
        group, sex = ("Kid", "female") if model == 63 else ("Caucasian", "male")
        for number, (word, expression) in enumerate(EXPRESSIONS.items()):
            gaze = ("frontal", "left", "right")[number % 3]
            for camera in ("090", "045"):
                file = f"Rafd{camera}_{model:02d}_{group}_{sex}_{word}_{gaze}.jpg"
                write(root / "RaFD" / file, face(model, expression))
    write(root / "RaFD" / "Rafd090_28_Caucasian_male_smug_frontal.jpg", face(0, expression))
    write(root / "RaFD" / "cover.jpg", face(0, expression))
    return root
