"""FED-RO (Li et al., IEEE TIP 28(5), 2019): 400 faces with real occlusions, for tests alone.

How the files lie is not published. Folders named after expressions are read; another copy is told
by the options, and a folder whose meaning is not known stops the scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from data_service.corpora._files import existing_folder, visible
from data_service.corpora._labels import Labels
from data_service.corpora.folders import class_folders
from data_service.schema import Scan

NAME = "fedro"
DESCRIPTION = "FED-RO: 400 faces with real occlusions, 7 expressions, for tests alone"
LAYOUT = """\
SOURCE/                      or one folder below it
  happy/1.jpg ...            a folder for each expression
options: pattern={expression}/* and labels=1:anger,... where a copy is laid out in another way
every face is marked as test; train on another corpus, then: mien evaluate RUN --lake DIR"""
EXPECTED: Mapping[str, int] = {"faces": 400, "split/test": 400}


def scan(source: Path | None, *, pattern: str = "{expression}/*", labels: str = "") -> Scan:
    """The faces below folders of expressions, all of the test part.

    ValueError for a folder that is no expression and that `labels` does not tell.
    """
    source = existing_folder(source, NAME, "a folder for each expression")
    meaning = Labels(labels)
    inner = [folder.name for folder in visible(source) if folder.is_dir()]
    above = "*/" if len(inner) == 1 and not meaning.know(inner) else ""
    faces, rejected = class_folders(source, above + pattern, meaning)
    if not faces and not rejected:
        raise ValueError(f"{source} holds no file; {NAME} needs a folder for each expression")
    tested = tuple(replace(face, split="test") for face in faces)
    return Scan(faces=tested, rejected=tuple(rejected), expected=EXPECTED)
