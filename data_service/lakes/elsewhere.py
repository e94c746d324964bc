"""Lakes in a storage service (S3, Google Cloud, HDFS: whatever pyarrow reads by address).

A folder of the home, which all machines share, stands for such a lake: it has the address and the
lake's small files. The Parquet files are copied by each node into its cache, once, and checked.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cluster.home import home
from cluster.lock import held
from data_service.lakes.manifest import MANIFEST, Manifest, blake, write_atomically
from data_service.lakes.unpacked import cache_dir

ADDRESS = "address"
_SMALL_FILES = ("quarantine.csv", "audit.json")
_MOST_SMALL_BYTES = 1 << 28


def lake_place(path: Path | None) -> Path | None:
    """The folder that a lake is read from; for an address the one that stands for it.

    ValueError where nothing that pyarrow can read lies there, or the address has a secret in it.
    """
    scheme, colon, rest = str(path).partition(":/")
    if not colon or not scheme.isalnum():
        return path
    return _stand_in(f"{scheme}://{'/' * (scheme == 'file')}{rest}")  # a Path has lost a slash


def fetched(folder: Path, manifest: Manifest) -> Path:
    """Where the lake's files lie: in its folder, or in this node's copy of a lake elsewhere.

    The first process of a node that asks copies them, others wait. ValueError where the address
    does not answer, or has other files than the manifest tells of.
    """
    if not (folder / ADDRESS).is_file():
        return folder
    address = (folder / ADDRESS).read_text()
    copy = cache_dir() / manifest.files_hash / "files"
    with held(copy / "lock"):
        absent = [file for file in manifest.files if not (copy / file.name).is_file()]
        if absent:
            files, place = _open(address)
            for file in absent:
                content = _read(files, f"{place}/{file.name}", address, file.num_bytes)
                if blake(content).hexdigest() != file.hash:
                    raise ValueError(f"damaged lake at {address}: {file.name} has changed")
                write_atomically(copy / file.name, content)
    return copy


def _stand_in(address: str) -> Path:
    files, place = _open(address)
    try:
        manifest = _read(files, f"{place}/{MANIFEST}", address)
    except FileNotFoundError:
        raise ValueError(f"no lake at {address}: there is no {MANIFEST}") from None
    name = f"{PurePosixPath(place).name}-{blake(address.encode()).hexdigest()[:8]}"
    folder = home() / "lakes" / name
    folder.mkdir(parents=True, exist_ok=True)
    for small in _SMALL_FILES:
        with suppress(FileNotFoundError):
            write_atomically(folder / small, _read(files, f"{place}/{small}", address))
    write_atomically(folder / ADDRESS, address.encode())
    write_atomically(folder / MANIFEST, manifest)
    return folder


def _open(address: str) -> tuple[Any, str]:
    """The file system of an address, and the place in it."""
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem  # takes a while to import, and most lakes are folders

    if _holds_a_secret(address):
        raise ValueError(
            "the address of a lake must not hold a name or password: set the variables that its "
            "service reads, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        return FileSystem.from_uri(address)
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"pyarrow cannot read {address}: {error}") from None


def _holds_a_secret(address: str) -> bool:
    """A name before a password or host; Azure's addresses have the container there."""
    parts = urlsplit(address)
    named = parts.username is not None and parts.scheme not in ("abfs", "abfss")
    secrets = re.compile(r"(?i)(secret|password|token|key|signature|sig)$")
    return bool(parts.password or named or any(map(secrets.search, parse_qs(parts.query))))


def _read(files: Any, place: str, address: str, most_bytes: int = _MOST_SMALL_BYTES) -> bytes:
    """The content of a file; of one that is larger than it should be, a little too much."""
    try:
        with files.open_input_stream(place, compression=None) as stream:
            return stream.read(most_bytes + 1)
    except FileNotFoundError:
        raise  # it answers, and there is no such file
    except OSError as error:
        raise ValueError(f"{address} does not answer: {error}") from None
