"""The pixels of a lake in one file that all processes of a node map into memory."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.lock import held
from data_service.lakes.manifest import IMAGE, LakeFile, Manifest, read_checked

_HEADER_BYTES = 1 << 20
"""What Parquet may need besides the pixels."""


def cache_dir() -> Path:
    """Where this node keeps what it unpacks: $MIEN_CACHE, or ~/.cache/mien."""
    return Path(os.environ.get("MIEN_CACHE") or Path.home() / ".cache" / "mien")


def unpack_once(path: Path, manifest: Manifest) -> Path:
    """The file with all pixels of the lake in `path`, written once on each node.

    The first process that asks writes it, others wait. Its folder is named by the files' hashes,
    against which every Parquet file is checked while it is unpacked: not by the lake's own hash,
    which a stranger's manifest may only claim.
    """
    folder = cache_dir() / manifest.files_hash
    unpacked = folder / "faces.bin"
    num_bytes = manifest.num_bytes
    if _has_size(unpacked, num_bytes):
        return unpacked
    with held(folder / "lock"):
        if not _has_size(unpacked, num_bytes):
            _unpack(path, manifest, unpacked)
    if not _has_size(unpacked, num_bytes):
        raise ValueError(f"damaged lake at {path}: its files hold not {num_bytes} pixel bytes")
    return unpacked


def _has_size(path: Path, num_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == num_bytes


def _unpack(path: Path, manifest: Manifest, unpacked: Path) -> None:
    draft = unpacked.with_suffix(f".{os.getpid()}.draft")
    try:
        with draft.open("wb") as sink:
            for file in manifest.files:
                parquet = pq.ParquetFile(pa.BufferReader(read_checked(path, file)))
                _refuse_bomb(path, file, parquet.metadata, manifest)
                for chunk in parquet.read(columns=[IMAGE])[IMAGE].chunks:
                    width = chunk.type.byte_width
                    start = chunk.offset * width
                    sink.write(memoryview(chunk.buffers()[1])[start : start + len(chunk) * width])
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(draft, unpacked)
    finally:
        draft.unlink(missing_ok=True)


def _refuse_bomb(path: Path, file: LakeFile, found: pq.FileMetaData, manifest: Manifest) -> None:
    """ValueError where the file holds more than the manifest tells of it: it is not read at all."""
    groups = [found.row_group(index) for index in range(found.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    pixels = sum(one.total_uncompressed_size for one in columns if one.path_in_schema == IMAGE)
    most = 2 * file.rows * manifest.image_size**2 * manifest.channels + _HEADER_BYTES
    if found.num_rows != file.rows or pixels > most:
        raise ValueError(f"damaged lake at {path}: {file.name} does not hold {file.rows} faces")
