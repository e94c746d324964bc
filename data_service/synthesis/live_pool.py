"""A pool that grows while a run trains with it, and the ledger of what each step could see of it.

Which faces come, and in which order, is a function of generator, gate and seed (`synthesis`); how
soon they come is not. So for every window of steps it is decided once how many faces it may show:
as many as were there when its first batch was built. Whoever builds that batch writes the decision
down, every worker keeps to it, and so does a run that is resumed or replayed.

A folder with `live.json`, `parts/` (the finished batches of attempts) and `ledger/` (a file for
each window). Shapes: M faces so far, H height, W width, C channels.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.lock import put_once
from data_service.folds import Fold
from data_service.lakes.lake import Lake
from data_service.lakes.manifest import blake, write_atomically
from data_service.synthesis.parts import Part, Parts
from data_service.synthesis.pool import ROW_SCHEMA, SealedPool, require_made_for

WINDOW_STEPS = 16
"""Steps that see the same faces of the pool."""
MANIFEST, PARTS, LEDGER = "live.json", "parts", "ledger"
ARRIVAL_SECONDS = 60.0
"""How long a shared disk may take to show what another machine has written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveManifest:
    """Whose faces a live pool holds: the lake and the fold by their hashes, the generator's run.

    `until` is how many faces, real and synthetic, each of `classes` is to have.
    """

    lake: str
    fold: str
    fold_name: str
    run: str
    classes: tuple[str, ...]
    until: int
    image_size: int
    channels: int


class LivePool:
    """A live pool, opened: by the run that it is for, or to be `replayed` by another.

    A replay decides nothing: a window that the ledger does not know sees what the one before saw.
    """

    def __init__(self, path: Path, *, replayed: bool = False) -> None:
        """ValueError where there is none at `path`."""
        self.path, self.replayed = Path(path), replayed
        try:
            values = json.loads((self.path / MANIFEST).read_text())
            self.manifest = LiveManifest(**values | {"classes": tuple(values["classes"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"no live pool at {self.path}: {error}") from None
        self._start()

    def _start(self) -> None:
        self._parts = Parts(self.path / PARTS)
        self._read: list[Part] = []
        self._pixels: list[pa.ChunkedArray] = []
        self._tables = [ROW_SCHEMA.empty_table()]
        self._ends = np.zeros(1, np.int64)
        self._decided: dict[tuple[int, int], int] = {}

    def __getstate__(self) -> dict[str, object]:
        """What a copy in another process starts from."""
        return {"path": self.path, "replayed": self.replayed, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    @classmethod
    def create(cls, path: Path, manifest: LiveManifest) -> LivePool:
        """An empty one."""
        (path / PARTS).mkdir(parents=True)
        (path / LEDGER).mkdir()
        write_atomically(path / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        return cls(path)

    def __len__(self) -> int:
        """Faces that are there by now."""
        while self._take_part():
            pass
        return int(self._ends[-1])

    @property
    def hash(self) -> str:
        """Names all faces and decisions so far."""
        digest = blake(json.dumps(asdict(self.manifest)).encode())
        found = [*self.path.glob(f"{PARTS}/*.arrow"), *self.path.glob(f"{LEDGER}/*.json")]
        for file in sorted(found):
            digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()

    def require(self, lake: Lake, fold: Fold, name: str) -> None:
        """ValueError unless the pool was made from this lake's training faces in this fold."""
        own = self.manifest
        require_made_for(
            self.path, (own.lake, own.fold, own.fold_name), own.classes, lake, fold, name
        )

    def visible(self, stage: int, window: int) -> int:
        """How many faces that window of the stage may show: the first ones, never fewer than the
        window before."""
        if (stage, window) not in self._decided:
            self._decided[stage, window] = self._decide(stage, window)
        return self._decided[stage, window]

    def _decide(self, stage: int, window: int) -> int:
        """What the ledger says of a window; written down here where nobody has done so yet."""
        before = self.visible(stage, window - 1) if window else self._end_of_earlier_stages(stage)
        file = self.path / LEDGER / f"{stage:02d}-{window:08d}.json"
        if not file.is_file():
            if self.replayed:
                return before
            _write_once(file, json.dumps({"faces": max(before, len(self))}).encode())
        return _faces_in(file)

    def _end_of_earlier_stages(self, stage: int) -> int:
        files = [file for file in (self.path / LEDGER).glob("*.json") if int(file.name[:2]) < stage]
        return max(map(_faces_in, files), default=0)

    def table(self, count: int) -> pa.Table:
        """The rows (ROW_SCHEMA) of the first `count` faces."""
        self._wait_for(count)
        return pa.concat_tables(self._tables).slice(0, count)

    @property
    def face_shape(self) -> tuple[int, int, int]:
        """H x W x C of every face, that of the lake's."""
        return self.manifest.image_size, self.manifest.image_size, self.manifest.channels

    def __getitem__(self, row: int) -> np.ndarray:
        """The face of that number, uint8 H x W x C, read-only, as it lies on the disk."""
        self._wait_for(row + 1)
        part = int(np.searchsorted(self._ends, row, side="right")) - 1
        pixels = self._pixels[part][int(row - self._ends[part])].as_buffer()
        return np.frombuffer(pixels, np.uint8).reshape(self.face_shape)

    def parts(self) -> Iterator[Part]:
        """All finished batches of attempts by now."""
        len(self)
        return iter(self._read)

    def _wait_for(self, count: int) -> None:
        """Until that many faces are read; they have been seen by whoever decided so."""
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while self._ends[-1] < count:
            if not self._take_part():
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"the live pool at {self.path} has {self._ends[-1]} faces, but its ledger "
                        f"says that a step showed {count}"
                    )
                time.sleep(0.05)

    def _take_part(self) -> bool:
        """Reads the next part, if it is there."""
        part = self._parts.read(len(self._read))
        if part is None:
            return False
        admitted = part.admitted
        self._read.append(part)
        self._pixels.append(admitted["pixels"])
        self._tables.append(admitted.select(ROW_SCHEMA.names))
        self._ends = np.append(self._ends, self._ends[-1] + admitted.num_rows)
        return True


def open_pool(path: Path) -> SealedPool | LivePool:
    """The pool in a folder: a sealed one, or a live one to be replayed. ValueError without one."""
    if (Path(path) / MANIFEST).is_file():
        return LivePool(path, replayed=True)
    return SealedPool.open(path)


def _faces_in(file: Path) -> int:
    return json.loads(file.read_text())["faces"]


def _write_once(file: Path, content: bytes) -> None:
    """Writes a file wholly, unless somebody else was first; then theirs stays."""
    who = f"{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    draft = file.with_name(f".{file.name}.{who}")
    write_atomically(draft, content)
    put_once(draft, file)
