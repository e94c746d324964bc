"""CK+ in miniature: four archives, each unpacked in its own way."""

from pathlib import Path

from data_service.corpora.ckplus import CODES
from data_service.schema import Expression
from tests.corpora.pictures import face, write


def build(root: Path) -> Path:
    for subject in range(6):
        for sequence, code in ((1, 1), (2, 5), (3, None)):
            _sequence(root, f"S{subject:03d}", f"{sequence:03d}", code)
    return root


def _sequence(root: Path, subject: str, sequence: str, code: int | None) -> None:
    images = root / "extended-cohn-kanade-images" / "cohn-kanade-images" / subject / sequence
    labels = root / "Emotion_labels" / "Emotion" / subject / sequence
    labels.mkdir(parents=True)
    write(images / ".DS_Store", "")
    stems = [f"{subject}_{sequence}_{frame:08d}" for frame in (1, 2, 4, 5, 6)]
    for frame, stem in enumerate(stems):
        shown = Expression.NEUTRAL if frame == 0 or code is None else CODES[code]
        write(images / f"{stem}.png", face(int(subject[1:]), shown, frame))
    if code is not None:
        write(labels / f"{stems[-1]}_emotion.txt", f"   {code:.7e}\n")
