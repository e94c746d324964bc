"""A cross-validation on disk: what it is, which of its folds have a run, where it tells MLflow."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cluster.home import runs_dir
from trainer import job as jobs
from trainer.config import RunConfig, to_dict
from trainer.overrides import from_dict

RECORD = jobs.CROSSVAL_RECORD


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossvalJob:
    """A cross-validation as `crossval.json` in its directory tells of it, to go on with."""

    run_id: str
    directory: Path
    run: RunConfig
    lake: Path
    lake_hash: str
    folds: int
    tracking_uri: str
    experiment: str
    init: str | None = None
    init_only: str = "*"
    init_map: tuple[str, ...] = ()
    allow_leaks: bool = False

    def save(self) -> None:
        """Write `crossval.json`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        rest = {name: getattr(self, name) for name in _plain_fields()}
        values = {"run": to_dict(self.run), "lake": str(self.lake), **rest}
        jobs.write_json(self.directory / RECORD, values)

    @classmethod
    def find(cls, run_id: str) -> CrossvalJob:
        """The one of that id, or of the start of its id; ValueError where it is not one."""
        jobs.require_named(run_id)
        found = [
            path for path in runs_dir().glob(f"*/{RECORD}") if path.parent.name.startswith(run_id)
        ]
        if len(found) != 1:
            names = ", ".join(path.parent.name for path in found) or "none"
            raise ValueError(f"'{run_id}' must name one cross-validation of {runs_dir()}: {names}")
        values: dict[str, Any] = {"init_map": (), **jobs.read_json(found[0])}
        try:
            rest = {name: values[name] for name in _plain_fields()}
            rest["init_map"] = tuple(rest["init_map"])
            run, lake = from_dict(values["run"]), Path(values["lake"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{found[0]} is no record of a cross-validation: {error}") from None
        return cls(directory=found[0].parent, run=run, lake=lake, **rest)

    def begun(self) -> dict[str, str]:
        """The run of every fold that has one, by the name of the fold."""
        own = sorted(self._runs(), key=lambda one: one["created"])
        return {one["fold"]: one["run_id"] for one in own}

    def at(self, uri: str) -> CrossvalJob:
        """The job as it tells MLflow at this address, and so do the runs of its folds."""
        if uri == self.tracking_uri:
            return self
        for one in self._runs():
            jobs.move_tracking(Path(one["directory"]), uri)
        moved = replace(self, tracking_uri=uri)
        moved.save()
        return moved

    def _runs(self) -> list[dict[str, Any]]:
        return [one for one in jobs.records() if one["parent"] == self.run_id]


def _plain_fields() -> list[str]:
    names = [item.name for item in fields(CrossvalJob)]
    return [name for name in names if name not in ("directory", "run", "lake")]
