"""Copies of a run's checkpoints in a storage service: it goes on from them where its home is lost.

Below the address lies a folder for each run: `run.json`, and in `checkpoints` a folder for each
step with the checkpoint, the best weights of until then, and what MLflow may not know yet. Its
`meta.json` comes last: a copy that has one is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from cluster.home import runs_dir
from cluster.storage import Place
from data_service.lakes.manifest import write_atomically
from trainer import checkpoint

RECORD = "run.json"
META = "meta.json"
BESIDE = ("best.safetensors", "journal.jsonl")
"""Files of the run that belong to a checkpoint, as far as they are there."""


def check(address: str) -> None:
    """ValueError where nothing can be written at the address, or it is none."""
    place, name = Place.at(address), f"probe-{uuid.uuid4().hex}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_text("")
            (place / name).send(Path(folder) / name)
        place.remove(name)
    except OSError as error:
        raise ValueError(f"checkpoint.copy_to: {address} cannot be written: {error}") from None


def begin(address: str, directory: Path) -> None:
    """Write down the run that lies in `directory`."""
    (Place.at(address) / directory.name).send(directory / RECORD)


def send(address: str, directory: Path, saved: Path, keep: int) -> None:
    """Copy the checkpoint `saved` of the run in `directory`; the newest `keep` copies stay.

    OSError or ValueError where the service refuses it.
    """
    copies = Place.at(address) / directory.name / "checkpoints"
    there = copies / saved.name
    for file in (directory / name for name in BESIDE):
        if file.is_file():
            there.send(file)
    for file in sorted(saved.iterdir(), key=lambda file: file.name == META):
        there.send(file)
    for old in copies.folders()[: -max(keep, 1)]:
        copies.remove(old)


def bring(address: str) -> Path:
    """The directory of the run whose copies lie at the address, with the newest whole checkpoint.

    What this home has of the run already stays, and what it has newer is not asked for. ValueError
    where there is no run.
    """
    place = Place.at(address)
    try:
        record = place.read(RECORD)
        known = json.loads(record)["run_id"]
    except FileNotFoundError:
        raise ValueError(f"no run at {address}: there is no {RECORD}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no run at {address}: {error}") from None
    if known != place.name or not re.fullmatch(r"\w+", known):
        raise ValueError(f"no run at {address}: its {RECORD} is that of run {known}")
    directory = runs_dir() / place.name
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / RECORD).is_file():
        write_atomically(directory / RECORD, record)
    newest = _newest_whole(directory / "checkpoints")
    for name in reversed(_copied(place / "checkpoints")):
        if name <= newest:
            break
        if _fetch(place / "checkpoints" / name, directory):
            break
    return directory


def _newest_whole(folder: Path) -> str:
    """The name of the newest checkpoint here that is whole, or nothing."""
    found = reversed(checkpoint.saved(folder))
    return next((path.name for path in found if checkpoint.is_whole(path)), "")


def _copied(place: Place) -> list[str]:
    """The steps of which there is a folder, the oldest first."""
    return [name for name in place.folders() if name.isdecimal()]


def _fetch(there: Place, directory: Path) -> bool:
    """Whether the copy is whole; then it has its name here, after what belongs to it is there."""
    draft = directory / "checkpoints" / f".{there.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        with suppress(FileNotFoundError):
            for name in (META, "state.safetensors"):
                there.fetch(name, draft / name)
        if not checkpoint.is_whole(draft):
            return False
        for name in BESIDE:
            with suppress(FileNotFoundError):
                there.fetch(name, draft / name)
                os.replace(draft / name, directory / name)
            (draft / name).unlink(missing_ok=True)
        shutil.rmtree(draft.with_name(there.name), ignore_errors=True)  # a damaged one
        os.rename(draft, draft.with_name(there.name))
        return True
    finally:
        shutil.rmtree(draft, ignore_errors=True)
