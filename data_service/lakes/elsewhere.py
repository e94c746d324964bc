"""Lakes in a storage service (S3, Google Cloud, HDFS: whatever pyarrow reads by address).

A folder of the home, which all machines share, stands for such a lake: it has the address, the
manifest and what was refused. The audit is not taken over but made anew, for nothing tells whether
it is the lake's. The Parquet files are copied by each node into its cache, once, and checked.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cluster.home import home
from cluster.lock import held
from cluster.storage import Place, address_of
from data_service.lakes.manifest import MANIFEST, Manifest, blake, write_atomically
from data_service.lakes.unpacked import cache_dir

ADDRESS = "address"
_QUARANTINE = "quarantine.csv"


def lake_place(path: Path | None) -> Path | None:
    """The folder that a lake is read from; for an address the one that stands for it.

    ValueError where nothing that pyarrow can read lies there, or the address has a secret in it.
    """
    address = address_of(path)
    return path if address is None else _stand_in(Place.at(address))


def fetched(folder: Path, manifest: Manifest) -> Path:
    """Where the lake's files lie: in its folder, or in this node's copy of a lake elsewhere.

    The first process of a node that asks copies them, others wait. ValueError where the address
    does not answer, or has other files than the manifest tells of.
    """
    if not (folder / ADDRESS).is_file():
        return folder
    place = Place.at((folder / ADDRESS).read_text())
    copy = cache_dir() / manifest.files_hash / "files"
    with held(copy / "lock"):
        for file in manifest.files:
            if not (copy / file.name).is_file():
                content = place.read(file.name, file.num_bytes)
                if blake(content).hexdigest() != file.hash:
                    raise ValueError(f"damaged lake at {place.address}: {file.name} has changed")
                write_atomically(copy / file.name, content)
    return copy


def _stand_in(place: Place) -> Path:
    try:
        manifest = place.read(MANIFEST)
    except FileNotFoundError:
        raise ValueError(f"no lake at {place.address}: there is no {MANIFEST}") from None
    folder = home() / "lakes" / f"{place.name}-{blake(place.address.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        write_atomically(folder / _QUARANTINE, place.read(_QUARANTINE))
    write_atomically(folder / ADDRESS, place.address.encode())
    write_atomically(folder / MANIFEST, manifest)
    return folder
