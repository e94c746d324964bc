"""What all trials of a search share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_service.folds import ALL
from trainer.config import RunConfig
from tuning.objectives import Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What all trials of a search share; `run` is one of `trial_run`.

    `origin` is the run as it was given. `outer` is the fold whose test subjects are set aside and
    tested last. `unseen` is that fold, or the one that the search stays within: its test subjects
    the choice never saw; None where folds of all subjects leave none. Without a `study_run` nothing
    is told to MLflow. `lanes` trials are trained at a time in a slot, `fused` in one pass where
    they can be. `threads` are torch's in a slot, `environment` the variables that every process of
    mien needs, `leaks` what is trained on though it stands on more than one side of a fold.
    """

    run: RunConfig
    lake: Path
    lake_hash: str
    experiment: str
    objectives: tuple[Objective, ...]
    num_folds: int
    outer: str | None = None
    origin: RunConfig | None = None
    study_run: str | None = None
    lanes: int = 1
    fused: bool = False
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    leaks: str = "none"
    unseen: str | None = None

    def fold(self, index: int) -> str | None:
        """What fold `index` (from 1) of a trial is called; None: the default."""
        if self.num_folds == 1:
            return self.outer
        return f"{self.outer or ALL}:{index}/{self.num_folds}"


def trial_run(run: RunConfig) -> RunConfig:
    """The run as a slot trains it: one worker, in its process, reading the lake by itself."""
    engine = replace(run.engine, workers=1, least_workers=None, zero=None)
    stream = "local" if run.data.stream == "auto" else run.data.stream
    return replace(run, engine=engine, data=replace(run.data, stream=stream))
