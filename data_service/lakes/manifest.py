"""What a lake says of itself in `manifest.json`, and how its files are written and checked."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
PARTS = ".parts"
IMAGE = "image"
"""The column of the pixels."""
THUMBNAIL = "source_thumbnail"
"""The column of the small whole pictures, which only the audit reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LakeFile:
    """One Parquet file of a lake: rows, size and hash."""

    name: str
    rows: int
    num_bytes: int
    hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a lake holds. `hash` is of the faces and their labels, whatever wrote the files;
    `source_hash` is of some of what was listed (see `ingest_hashes`), and nothing compares it.

    `classes` and `alignments` count rows (`unlabelled`: without an expression), `rejected` counts
    refused files by reason; `found` and `expected` are counts that the corpus' module made.
    """

    corpus: str
    image_size: int
    channels: int
    count: int
    subjects: int
    source_hash: str
    hash: str
    classes: Mapping[str, int]
    alignments: Mapping[str, int]
    rejected: Mapping[str, int]
    found: Mapping[str, int]
    expected: Mapping[str, int]
    files: tuple[LakeFile, ...] = field(repr=False)
    format_version: int = FORMAT_VERSION

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return self.count * self.image_size**2 * self.channels

    @property
    def files_hash(self) -> str:
        """Names what the files hold, which every reader checks: what a node may keep of them."""
        return blake("".join(file.hash for file in self.files).encode()).hexdigest()

    def to_json(self) -> str:
        """The manifest as it stands in `manifest.json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path, *, older: bool = False) -> Manifest:
        """The manifest of the lake in `folder`; ValueError says why there is none.

        With `older`, also of a lake that only an earlier version can read: enough to replace it.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise ValueError(_why_no_lake(folder))
        try:
            values = json.loads(path.read_text())
            version = values["format_version"]
            if version > FORMAT_VERSION:
                raise _OtherVersionError(
                    f"the lake at {folder} was made by a newer version (format {version}; this "
                    f"version reads up to {FORMAT_VERSION}): update mien or ingest again"
                )
            if version < FORMAT_VERSION and not older:
                raise _OtherVersionError(
                    f"the lake at {folder} was made by an older version (format {version}; this "
                    f"version reads {FORMAT_VERSION}): ingest again"
                )
            files = tuple(LakeFile(**file) for file in values.pop("files"))
            manifest = cls(**values, files=files)
            _check_names(manifest)
            return manifest
        except _OtherVersionError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"damaged lake: {path} cannot be read: {error}") from None


def _check_names(manifest: Manifest) -> None:
    """What becomes part of a path stays in its folder: lakes come from strangers too."""
    if not re.fullmatch(r"[0-9a-f]{32}", manifest.hash):
        raise ValueError(f"'{manifest.hash}' is no hash")
    for file in manifest.files:
        if not re.fullmatch(r"faces-[0-9a-f-]+\.parquet", file.name):
            raise ValueError(f"'{file.name}' is no file of a lake")


class _OtherVersionError(ValueError):
    pass


def _why_no_lake(folder: Path) -> str:
    if folder.is_file():
        return f"no lake at {folder}: it is a file"
    if not folder.is_dir():
        return f"no lake at {folder}: there is no such folder"
    if (folder / PARTS).exists() or any(folder.glob("faces-*.parquet")):
        return f"half-written lake at {folder}: {MANIFEST} is missing; ingest it again"
    return f"no lake at {folder}: the folder has no {MANIFEST}"


def blake(content: bytes | memoryview = b"") -> hashlib.blake2b:
    """The hash that lakes and pools are named by."""
    return hashlib.blake2b(content, digest_size=16)


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Writes a file that is there wholly or not at all, also when the disk is full."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read_checked(folder: Path, file: LakeFile) -> bytes:
    """The content of a file of a lake; ValueError where it is not what was written."""
    content = (folder / file.name).read_bytes()
    if blake(content).hexdigest() != file.hash:
        raise ValueError(f"damaged lake at {folder}: {file.name} has changed; ingest it again")
    return content
