"""Everything that must survive, as one object: safetensors and JSON, hashed, written atomically.

A checkpoint is a folder `<step>` with `state.safetensors` and `meta.json`; the folder gets its name
only when both are whole on disk. It loads on any number of workers and at any ZeRO stage.

Beside them lies `best.safetensors`, which says at how many images it was written: the weights that
the run is tested with belong to the checkpoint from which it goes on, or are given up.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cluster.resources import usable_cpus
from trainer.config import CheckpointConfig
from trainer.system import Progress
from trainer.tensor_files import write_tensors
from trainer.training import Training

LOG = logging.getLogger(__name__)
FORMAT_VERSION = 1
IMAGES = "mien.images"
MOST_SHARE = 0.03
"""Of the time of a training; checkpoints that would take more come later than the clock asks."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """State by `kind/player/name` (player, moment, average, system, sum) and plain values.

    `seconds` is how long the training waited for it.
    """

    tensors: Mapping[str, Tensor]
    progress: Progress
    extra: Mapping[str, Any]
    seconds: float = 0.0


def capture(training: Training, extra: Mapping[str, Any]) -> Checkpoint | None:
    """A picture of the training on CPU; only rank 0 gets it, but all ranks must call."""
    began = time.monotonic()
    moments = {
        f"moment/{name}/{key}": value
        for name, engine in training.engines.items()
        for key, value in engine.moments().items()
    }
    sums = {
        name: training.world.all_reduce_sum(value.clone()) for name, value in training.sums.items()
    }
    ledger = training.world.all_reduce_sum(training.ledger.clone())
    if not training.world.leads:
        return None
    tensors = {"ledger": ledger}
    for name, player in training.players.items():
        for key, value in player.module.state_dict().items():
            tensors[f"player/{name}/{key}"] = value
    for key, value in training.averages.state_dict().items():
        tensors[f"average/{key}"] = value
    for key, value in training.system.state_dict().items():
        tensors[f"system/{key}"] = value
    for key, value in sums.items():
        tensors[f"sum/{key}"] = value
    snapshot = {key: value.detach().to("cpu", copy=True) for key, value in tensors.items()}
    return Checkpoint(
        tensors={key: value.contiguous() for key, value in (snapshot | moments).items()},
        progress=training.progress,
        extra=dict(extra),
        seconds=time.monotonic() - began,
    )


def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Put the training where the checkpoint stands; the engines take their moments when built.

    ValueError where it is another system's.
    """
    tensors = checkpoint.tensors
    for name, player in training.players.items():
        _load(player.module, _part(tensors, f"player/{name}/"), name)
    training.averages.load_state_dict(_part(tensors, "average/"))
    training.system.load_state_dict(_part(tensors, "system/"))
    leads, device = training.world.leads, training.world.device
    training.sums = {
        key: value.to(device) if leads else torch.zeros_like(value, device=device)
        for key, value in _part(tensors, "sum/").items()
    }
    training.pending_moments = _part(tensors, "moment/")
    training.ledger.fill_(tensors["ledger"] if training.world.leads and "ledger" in tensors else 0)
    training.progress = checkpoint.progress


def _load(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()]
        raise ValueError(f"the tensors do not fit '{name}': {' '.join(reasons[1:2])}") from None


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}


def initialise(module: nn.Module, tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Copy the tensors whose names match and whose shapes fit into the module; how many did."""
    own = module.state_dict()
    chosen = {
        key: value
        for key, value in tensors.items()
        if key in own and own[key].shape == value.shape and fnmatch.fnmatch(key, pattern)
    }
    module.load_state_dict(chosen, strict=False)
    return len(chosen)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write the checkpoint below `folder`, whole or not at all; OSError when the disk refuses.

    One of the same step that lies there stays, unless it is damaged.
    """
    final = folder / f"{checkpoint.progress.step:09d}"
    if final.exists() and is_whole(final):
        return final
    draft = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        save_file(dict(checkpoint.tensors), draft / "state.safetensors")
        meta = {
            "format_version": FORMAT_VERSION,
            "hash": _hash(draft / "state.safetensors"),
            "progress": dataclasses.asdict(checkpoint.progress),
            "extra": checkpoint.extra,
            "written": time.time(),
        }
        (draft / "meta.json").write_text(json.dumps(meta))
        for name in ("state.safetensors", "meta.json"):
            _sync(draft / name)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(draft, final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise OSError(f"checkpoint {final} could not be written: {error}") from error
    return final


def read(path: Path) -> Checkpoint:
    """The checkpoint in `path`; ValueError says what is wrong with it."""
    meta = _checked(path)
    tensors = load_weights(path / "state.safetensors")
    try:
        return Checkpoint(
            tensors=tensors, progress=Progress(**meta["progress"]), extra=meta["extra"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path / 'meta.json'} is not what mien writes: {error}") from None


def _checked(path: Path) -> dict[str, Any]:
    """The meta of a checkpoint whose content fits its hash; ValueError otherwise."""
    if links := [one.name for one in (path, *path.iterdir()) if one.is_symlink()]:
        raise ValueError(f"{path} is no checkpoint: {links[0]} is a link")
    try:
        meta = json.loads((path / "meta.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no whole checkpoint: {error}") from None
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}; this mien reads {FORMAT_VERSION}")
    state = path / "state.safetensors"
    if not state.is_file() or _hash(state) != meta.get("hash"):
        raise ValueError(f"{state} is damaged: its content does not fit the hash in meta.json")
    return meta


def saved(folder: Path) -> list[Path]:
    """The checkpoints below `folder`, oldest first, whether whole or damaged."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; what is damaged, or cannot be read, is passed over."""
    for path in reversed(saved(folder)):
        try:
            return read(path)
        except (ValueError, OSError):
            continue
    return None


def expired(
    folder: Path, rules: CheckpointConfig, now: float, whole: Path | None = None
) -> list[Path]:
    """The checkpoints below `folder` that the rules give up at the time `now` (seconds since 1970).

    The newest one whose content fits its hash stays whatever the rules say; it is read for that,
    unless it is `whole`, which has just been written.
    """
    found = saved(folder)
    stay = set(found[-max(rules.keep, 1) :])
    if rules.keep_hours is not None:
        oldest = now - rules.keep_hours * 3600
        stay = {path for path in stay if path.stat().st_mtime >= oldest}
    stay.add(next((path for path in reversed(found) if path == whole or is_whole(path)), folder))
    return [path for path in found if path not in stay]


def is_whole(path: Path) -> bool:
    """Whether the checkpoint in `path` is one, and its content fits its hash."""
    try:
        _checked(path)
    except (ValueError, OSError):
        return False
    return True


class Writer:
    """Writes checkpoints in a thread, one at a time, and deletes those that `rules` give up.

    A disk that refuses does not end the training: the error is kept in `error` until a later write
    succeeds, and older checkpoints stay. `copy` is called with each that is written; where it
    fails, the log says so, and the next one is copied. It is called in the same thread: while a
    copy is being uploaded, those that are due here wait.
    """

    def __init__(
        self, folder: Path, rules: CheckpointConfig, copy: Callable[[Path], None] | None = None
    ) -> None:
        self.folder, self.rules, self.copy = folder, rules, copy
        self.error: OSError | None = None
        self._thread: threading.Thread | None = None
        self._rested = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        for draft in folder.glob(".[0-9]*"):  # of a process that was killed while it wrote
            shutil.rmtree(draft, ignore_errors=True)

    @property
    def writing(self) -> bool:
        """Whether a write is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """Whether another has to wait: for the one that is being written and, where the clock asks
        for it, until the last one has taken no more than `MOST_SHARE` of the time since then."""
        by_clock = self.rules.every_steps is None
        return self.writing or (by_clock and time.monotonic() < self._rested)

    def submit(self, checkpoint: Checkpoint, on_written: Any = None) -> None:
        """Write in the background, after what is being written."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(checkpoint, on_written))
        self._thread.start()

    def wait(self) -> None:
        """Until the last write has ended."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, checkpoint: Checkpoint, on_written: Any) -> None:
        taken = time.monotonic() - checkpoint.seconds
        self._keep(checkpoint, on_written)
        cost = checkpoint.seconds + time.thread_time() / usable_cpus()
        self._rested = taken + cost / MOST_SHARE

    def _keep(self, checkpoint: Checkpoint, on_written: Any) -> None:
        try:
            written = write(self.folder, checkpoint)
        except OSError as error:
            self.error = error
            return
        self.error = None
        if on_written is not None:
            on_written(checkpoint.progress)
        if self.copy is not None:
            try:
                self.copy(written)
            except (OSError, ValueError) as error:
                LOG.error("checkpoint %s is not copied: %s", written, error)
        for old in expired(self.folder, self.rules, time.time(), written):
            shutil.rmtree(old, ignore_errors=True)


def write_weights(path: Path, training: Training, *, images: int | None = None) -> None:
    """The players' parameters and buffers as they stand, and the system's own state, in one file.

    This is what `mien edit`, `recognise`, `evaluate` and `--init` read. `images`, where given, is
    what `images_of` says of the file. OSError where the disk refuses.
    """
    tensors = {
        f"player/{name}/{key}": value
        for name, player in training.players.items()
        for key, value in player.module.state_dict().items()
    }
    tensors |= {f"system/{key}": value for key, value in training.system.state_dict().items()}
    write_tensors(path, tensors, None if images is None else {IMAGES: str(images)})


def images_of(path: Path) -> int | None:
    """After how many images `write_weights` wrote them; None where the file does not say."""
    try:
        with safe_open(path, "pt") as file:
            return int((file.metadata() or {})[IMAGES])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def read_weights(path: Path, training: Training) -> None:
    """Put what `write_weights` wrote into the training's players."""
    tensors = load_weights(path)
    for name, player in training.players.items():
        _load(player.module, _part(tensors, f"player/{name}/"), name)
    training.system.load_state_dict(_part(tensors, "system/"))


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file; ValueError when it is damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is no whole weights file: {error}") from None
