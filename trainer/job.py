"""One run on disk: what it is, how it stands, what came of it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.home import runs_dir
from cluster.storage import address_of
from data_service.schema import DatasetInfo, Expression
from trainer.config import RunConfig, plain, to_dict
from trainer.overrides import from_dict, from_plain

LOG = logging.getLogger(__name__)
CROSSVAL_RECORD = "crossval.json"
"""In the folder of a cross-validation; its folds' runs have folders of their own."""

LIVE = ("starting", "running")
"""States of a run that goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A run as its workers get it; `run.json` in its directory says the same.

    `face_pixels` is the side of the lake's faces, of which the run sees the middle. `fold` is
    `K/N`, 1-based. `init` is the file of the weights that it starts from, for the parameters that
    match `init_only`; `init_map` says, as OLD=NEW, how names there begin here. `validation_only`
    leaves the test subjects untouched. `pool` is the sealed pool that it was given, or another
    run's live one to be replayed, with the hash of its content. `live` is the run that makes faces
    for this one while it trains.
    """

    run_id: str
    directory: Path
    run: RunConfig
    lake: Path
    lake_hash: str
    face_pixels: int
    fold: str
    tracking_uri: str
    experiment: str
    parent: str | None = None
    init: Path | None = None
    init_only: str = "*"
    init_map: tuple[str, ...] = ()
    validation_only: bool = False
    pool: Path | None = None
    pool_hash: str = ""
    live: str = ""

    @property
    def live_pool(self) -> Path:
        """Where the faces lie that are made while the run trains, and their ledger."""
        return self.directory / "live"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.directory / "checkpoints"

    @property
    def journal(self) -> Path:
        """What the run has to tell MLflow."""
        return self.directory / "journal.jsonl"

    @property
    def stop_file(self) -> Path:
        """A file that, when it appears, asks the run to save and stop."""
        return self.directory / "stop"

    @property
    def leave_file(self) -> Path:
        """A file that asks the workers to save and make way for a larger group of them."""
        return self.directory / "leave"

    @property
    def left_file(self) -> Path:
        """What becomes of `leave_file` when they have."""
        return self.directory / "left"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON atomically."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ValueError when it is not there, not whole, or something else."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not what mien writes")
    return values


def save(job: Job) -> None:
    """Write run.json."""
    job.directory.mkdir(parents=True, exist_ok=True)
    write_json(
        job.directory / "run.json",
        {
            "run_id": job.run_id,
            "run": to_dict(job.run),
            "lake": {
                "path": str(job.lake),
                "hash": job.lake_hash,
                "face_pixels": job.face_pixels,
            },
            "fold": job.fold,
            "tracking_uri": job.tracking_uri,
            "experiment": job.experiment,
            "parent": job.parent,
            "init": str(job.init) if job.init else None,
            "init_only": job.init_only,
            "init_map": job.init_map,
            "validation_only": job.validation_only,
            "pool": {"path": str(job.pool), "hash": job.pool_hash} if job.pool else None,
            "live": job.live,
            "created": time.time(),
        },
    )


def move_tracking(directory: Path, uri: str) -> None:
    """The run of that directory tells MLflow at another address from now on."""
    path = directory / "run.json"
    write_json(path, {**read_json(path), "tracking_uri": uri})


def load(directory: Path) -> Job:
    """The run whose run.json lies in `directory`.

    ValueError where that cannot be read, or where a link leads out of the directory: what goes on
    with the run writes there.
    """
    _refuse_links(directory)
    with as_written(directory / "run.json"):
        return _from_json(directory, read_json(directory / "run.json"))


@contextlib.contextmanager
def as_written(path: Path) -> Iterator[None]:
    """ValueError where what was read from `path` lacks something, or has something else there."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what mien writes: {error}") from None


def _refuse_links(directory: Path) -> None:
    whole = directory.resolve()
    for path in directory.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(whole):
            raise ValueError(f"{path} leads out of the run's directory")


def _from_json(directory: Path, values: Mapping[str, Any]) -> Job:
    pool = values.get("pool")
    return Job(
        run_id=values["run_id"],
        directory=directory,
        run=from_dict(values["run"]),
        lake=Path(values["lake"]["path"]),
        lake_hash=values["lake"]["hash"],
        face_pixels=values["lake"]["face_pixels"],
        fold=values["fold"],
        tracking_uri=values["tracking_uri"],
        experiment=values["experiment"],
        parent=values["parent"],
        init=Path(values["init"]) if values["init"] else None,
        init_only=values["init_only"],
        init_map=tuple(values.get("init_map", ())),
        validation_only=values["validation_only"],
        pool=Path(pool["path"]) if pool else None,
        pool_hash=pool["hash"] if pool else "",
        live=values.get("live", ""),
    )


def find(run: str) -> Path:
    """The directory of a run given by its id, the start of its id, or its path.

    Of one at an address, the directory here that goes on with its copies. ValueError where there is
    none, or a cross-validation.
    """
    require_named(run)
    if address := address_of(run):
        from trainer.copies import bring  # which reads checkpoints, and so imports torch

        return bring(address)
    if (Path(run) / "run.json").is_file():
        return Path(run).absolute()
    known = sorted(path.parent for path in runs_dir().glob("*/run.json"))
    found = [path for path in known if path.name.startswith(run)]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise ValueError(f"run '{run}' is ambiguous: {', '.join(path.name for path in found)}")
    _refuse_crossval(run)
    listed = ", ".join(path.name for path in known[-5:]) or "none yet"
    raise ValueError(f"there is no run '{run}' in {runs_dir()}; runs: {listed}")


def require_named(run: str) -> None:
    """ValueError where the name of a run is empty, which is the start of every id."""
    if not run.strip():
        raise ValueError("RUN is empty; valid: the id of a run, the start of one, or its path")


def _refuse_crossval(run: str) -> None:
    """ValueError where that is a cross-validation, by its id, the start of it, or its path."""
    found = [path.parent for path in runs_dir().glob(f"*/{CROSSVAL_RECORD}")]
    found = [path for path in found if path.name.startswith(run)]
    if (Path(run) / CROSSVAL_RECORD).is_file():
        found = [Path(run).absolute()]
    if not found:
        return
    name = found[0].name
    own = [f"{one['run_id']} ({one['fold']})" for one in records() if one["parent"] == name]
    raise ValueError(
        f"{name} is a cross-validation; go on with: mien crossval --resume {name}; the runs of its "
        f"folds: {', '.join(own) or 'none yet'}"
    )


def records() -> Iterator[dict[str, Any]]:
    """What the run.json of every run says, with its `directory`; an unreadable one is no run."""
    for path in sorted(runs_dir().glob("*/run.json")):
        with contextlib.suppress(ValueError):
            values = read_json(path)
            if values.keys() >= {"run_id", "run", "fold", "parent", "created", "tracking_uri"}:
                yield {**values, "directory": str(path.parent)}


def write_info(directory: Path, info: DatasetInfo) -> None:
    """Keep what the system was built for, so that it can be built again without the lake."""
    write_json(directory / "info.json", plain(info))


def read_info(directory: Path) -> DatasetInfo:
    """What `write_info` kept."""
    return from_plain(DatasetInfo, read_json(directory / "info.json"))


def set_status(directory: Path, state: str, **values: Any) -> None:
    """Say how the run stands: running, finished, stopped, pruned or failed.

    It is for onlookers: a disk that refuses it ends no run, and stands in the log.
    """
    status = {
        "state": state,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "updated": time.time(),
        **values,
    }
    try:
        write_json(directory / "status.json", status)
    except OSError as error:
        LOG.warning("%s could not be written: %s", directory / "status.json", error)


def classes_of(run: RunConfig, present: Mapping[str, int]) -> tuple[Expression, ...]:
    """The run's classes: those it names, or all that the lake has, in canonical order."""
    lacking = [str(name) for name in run.data.classes if not present.get(name)]
    if lacking:
        raise ValueError(
            f"the lake has no face of {', '.join(lacking)}; it has {', '.join(sorted(present))}"
        )
    chosen = run.data.classes or tuple(name for name in Expression if present.get(name))
    return tuple(name for name in Expression if name in chosen)
