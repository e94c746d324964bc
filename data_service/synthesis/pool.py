"""A sealed pool: synthetic faces on disk that were made once, admitted, and never change.

A folder with `rows.parquet`, `faces.bin` (pixels, mapped into memory as they lie) and
`manifest.json`, which is written last. `refused.parquet` has some of the faces that were refused.

Shapes: M synthetic faces, H height, W width, C channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.home import home
from cluster.lock import held
from cluster.storage import Place, address_of
from data_service.folds import Fold
from data_service.lakes.lake import Lake
from data_service.lakes.manifest import MANIFEST, blake, write_atomically

FORMAT_VERSION = 1
FACES = "faces.bin"
ROWS = "rows.parquet"
REFUSED = "refused.parquet"

ROW_SCHEMA = pa.schema(
    {
        "row_id": pa.string(),
        "source_row": pa.int64(),
        "subject": pa.string(),
        "expression": pa.string(),
        "attempt": pa.int64(),
    }
)
"""`row_id` hashes generator, gate, seed, expression and attempt; `source_row` is the lake's."""

EXAMPLE_SCHEMA = ROW_SCHEMA.append(pa.field("reason", pa.string())).append(
    pa.field("pixels", pa.binary())
)
"""Why a face was refused, and its pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolManifest:
    """What a pool holds, and by whose hand. `hash` names its content, `recipe` what determined it.

    `admitted`, `attempts` and `wanted` are counts by expression, `refused` by the gate's reasons:
    every attempt was admitted or refused, and what passed when its class was full counts as none.
    `fold` names the division by its hash, `fold_name` as a person does; `run` is the generator's.
    """

    recipe: str
    lake: str
    fold: str
    generator: str
    gate: str
    seed: int
    count: int
    image_size: int
    channels: int
    wanted: Mapping[str, int]
    admitted: Mapping[str, int]
    attempts: Mapping[str, int]
    refused: Mapping[str, int]
    hash: str
    fold_name: str = ""
    run: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def admission_rates(self) -> dict[str, float]:
        """The share of attempts that were admitted, by expression."""
        return {name: self.admitted[name] / tried for name, tried in self.attempts.items() if tried}


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedPool:
    """A whole pool, opened: `table` (ROW_SCHEMA) tells of what `faces` (read-only) shows.

    Faces have the size of the lake's: the synthetic middle stands in its source's own margin.
    """

    path: Path
    manifest: PoolManifest

    @classmethod
    def open(cls, path: Path) -> SealedPool:
        """The pool in the folder `path`; ValueError where there is none or it is not whole."""
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise ValueError(f"no sealed pool at {path}: it has no {MANIFEST}")
        try:
            values = json.loads((path / MANIFEST).read_text())
            version = values["format_version"]
            known = version <= FORMAT_VERSION
            manifest = PoolManifest(**values) if known else None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"damaged pool: {path / MANIFEST} cannot be read: {error}") from None
        if manifest is None:
            raise ValueError(f"the pool at {path} was made by a newer version (format {version})")
        pool = cls(path=path, manifest=manifest)
        found = (path / FACES).stat().st_size if (path / FACES).is_file() else 0
        if found != pool.num_bytes or not (path / ROWS).is_file():
            raise ValueError(f"damaged pool at {path}: {FACES} or {ROWS} is not what was written")
        return pool

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def hash(self) -> str:
        """Names the pool's content; it goes into the record of a run."""
        return self.manifest.hash

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return len(self) * self.manifest.image_size**2 * self.manifest.channels

    @cached_property
    def table(self) -> pa.Table:
        """One row for each face."""
        return pq.ParquetFile(self.path / ROWS).read()

    @cached_property
    def faces(self) -> np.ndarray:
        """All faces, uint8 M x H x W x C, read-only, mapped from the disk."""
        side, channels = self.manifest.image_size, self.manifest.channels
        shape = (len(self), side, side, channels)
        if not len(self):
            return np.empty(shape, np.uint8)
        return np.asarray(np.memmap(self.path / FACES, np.uint8, "r", shape=shape))

    @cached_property
    def refused(self) -> pa.Table:
        """Examples of refused faces (EXAMPLE_SCHEMA); of an older pool none."""
        if not (self.path / REFUSED).is_file():
            return EXAMPLE_SCHEMA.empty_table()
        return pq.ParquetFile(self.path / REFUSED).read()

    def require(self, lake: Lake, fold: Fold, name: str) -> None:
        """ValueError unless the pool was made from this very lake's training faces in this fold.

        `name` is what the fold is called. In any other fold, faces of the pool show subjects that
        are to be tested, or were judged by networks that saw them.
        """
        own = self.manifest
        made_for = (own.lake, own.fold, own.fold_name)
        require_made_for(self.path, made_for, tuple(own.wanted), lake, fold, name)

    def verify(self) -> None:
        """ValueError where rows or pixels are not what was written."""
        if content_hash(self.table, self.faces) != self.hash:
            raise ValueError(f"damaged pool at {self.path}: its content has changed")


def require_made_for(
    path: Path,
    made_for: tuple[str, str, str],
    classes: tuple[str, ...],
    lake: Lake,
    fold: Fold,
    name: str,
) -> None:
    """ValueError unless `made_for` (lake and fold by hash, the fold's name) is `fold` of `lake`.

    `path` and `classes` are the pool's, `name` is what the fold is called.
    """
    own_lake, own_fold, own_name = made_for
    if own_lake != lake.hash:
        raise ValueError(
            f"the pool at {path} was made from another lake ({own_lake[:12]}) than "
            f"{lake.path} ({lake.hash[:12]}); make one for it: mien synthesise"
        )
    if own_fold != fold.hash:
        other = name if name != own_name else f"{name} as these classes divide it"
        raise ValueError(
            f"the pool at {path} was made for fold {own_name or own_fold[:12]} of "
            f"{', '.join(classes)}, not for fold {other}, which tests other subjects"
        )


def pool_place(path: str | Path) -> Path:
    """The folder that a pool is read from; of one at an address a copy in the home, for all hosts.

    ValueError where there is none.
    """
    address = address_of(path)
    if address is None:
        return Path(path)
    place = Place.at(address)
    folder = home() / "pools" / f"{place.name}-{blake(address.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        manifest = place.read(MANIFEST)
        with held(folder / "lock"):
            if not (folder / MANIFEST).is_file() or (folder / MANIFEST).read_bytes() != manifest:
                (folder / MANIFEST).unlink(missing_ok=True)
                for name in (FACES, ROWS):
                    place.fetch(name, folder / name)
                with suppress(FileNotFoundError):
                    place.fetch(REFUSED, folder / REFUSED)
                write_atomically(folder / MANIFEST, manifest)
    except FileNotFoundError:
        raise ValueError(
            f"no sealed pool at {address}: it has no {MANIFEST}, or not all files"
        ) from None
    return folder


def content_hash(table: pa.Table, faces_MHWC: np.ndarray) -> str:
    """The hash of a pool's rows and pixels."""
    digest = blake(json.dumps(table.to_pylist()).encode())
    digest.update(np.ascontiguousarray(faces_MHWC).data)
    return digest.hexdigest()


def write_pool(
    path: Path, manifest: PoolManifest, table: pa.Table, faces_MHWC: np.ndarray, refused: pa.Table
) -> SealedPool:
    """Writes a pool, its manifest last."""
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / FACES, faces_MHWC.tobytes())
    for name, rows in ((ROWS, table), (REFUSED, refused)):
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        write_atomically(path / name, memoryview(sink.getvalue()))
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n"
    write_atomically(path / MANIFEST, text.encode())
    return SealedPool.open(path)
