"""MMI in little: two downloads, videos upright, on their side and over a mirror, and what is amiss.

Ten sessions can be used; the others are each of no use for another reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from data_service.corpora.mmi import CODES
from data_service.schema import Expression
from tests.corpora.pictures import face, write

FRAMES = 9
REFUSED = {
    "1790": "profile view",
    "1791": "no emotion label",
    "1792": "emotion outside the six",
    "1793": "video ends early",
    "1794": "still images",
    "1795": "no video",
    "1796": "XML file missing",
    "1797": "damaged XML file",
    "1798": "damaged XML file",
    "1799": "not a video",
    "1800": "several videos",
    "1801": "view unknown",
    "1802": "no subject in the name",
}


def build(root: Path) -> Path:
    first = root / "mmi-facial-expression-database_download_2018-12-29_13_28_54" / "Sessions"
    second = root / "download 2" / "Sessions"
    for number in range(10):
        view = 2 if number >= 8 else 0
        place = (first if number < 6 else second) / str(1767 + number)
        session(place, f"S{number // 2:03d}-{number:03d}", 1 + number % 2, view, turned=number == 3)
    session(second / "1767", "S000-000", 1)
    write(first / ".DS_Store", "")
    _useless(first)
    return root


def session(
    folder: Path, stem: str, code: int | None, view: int = 0, *, turned: bool = False
) -> Path:
    """One session with its video and both XML files."""
    write(
        folder / "session.xml",
        f'<?xml version="1.0"?>\n<session sessionId="{folder.name}">\n'
        f'<track trackNumber="1" type="video" view="{view}" filename="{stem}.avi">\n'
        f'<annotation filename="{stem}.xml"/></track></session>',
    )
    emotion = "" if code is None else f'<Metatag Name="Emotion" Value="{code}"/>'
    write(
        folder / f"{stem}.xml",
        f'<TrackMetadata><Metatag Name="Glasses" Value="0"/><Metatag Name="Hat" Value="0"/>'
        f"{emotion}</TrackMetadata>",
    )
    write(folder / f"{stem}-oao_aucs.xml", '<AUs><ActionUnit Number="12"/></AUs>')
    shown = CODES.get(code or 0, Expression.NEUTRAL)
    return film(folder / f"{stem}.avi", frames(int(stem[1:4]), shown, view, turned))


def frames(subject: int, shown: Expression, view: int, turned: bool) -> list[np.ndarray]:
    """From neutral to the expression and back."""
    made = []
    for number in range(FRAMES):
        apex = FRAMES // 3 <= number < 2 * FRAMES // 3
        picture = face(subject, shown if apex else Expression.NEUTRAL, number)
        if view == 2:
            picture = np.concatenate([np.full_like(picture, 40), picture], axis=1)
        made.append(np.rot90(picture) if turned else picture)
    return made


def film(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    """A video of these pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _useless(root: Path) -> None:
    """The sessions of REFUSED."""
    session(root / "1790", "S001-090", 1, view=1)
    session(root / "1791", "S001-091", None)
    session(root / "1792", "S001-092", 8)
    cut = session(root / "1793", "S001-093", 1)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    session(root / "1794", "S001-094", 1).unlink()
    write(root / "1794" / "S001-094.jpg", face(1, Expression.ANGER))
    session(root / "1795", "S001-095", 1).unlink()
    session(root / "1796", "S001-096", 1)
    (root / "1796" / "session.xml").unlink()
    session(root / "1797", "S001-097", 1)
    write(root / "1797" / "S001-097.xml", "<TrackMetadata><Metatag")
    session(root / "1798", "S001-098", 1)
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb">]><a><Metatag Name="Emotion" Value="1"/></a>'
    write(root / "1798" / "S001-098.xml", bomb)
    write(session(root / "1799", "S001-099", 1), "no video at all")
    write(session(root / "1800", "S001-100", 1).with_name("S001-101.avi"), "")
    session(root / "1801", "S001-101", 1, view=7)
    session(root / "1802", "S001-102", 1).rename(root / "1802" / "film.avi")
