"""MLflow, at arm's length: a slow or lost server neither blocks nor ends training.

What is logged goes into a journal (trainer/tracking/outbox.py); a thread
(trainer/tracking/sender.py) sends what a checkpoint has made certain, again and again until it is
through.
"""

from __future__ import annotations

import getpass
import json
import logging
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cluster.mlflow_store import ensure_store, experiment_id, sqlite_path
from trainer.config import RunConfig, plain
from trainer.tracking.outbox import File, Outbox, Picture, Point, now_ms
from trainer.tracking.sender import POINTS_AT_ONCE, Sender, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOG = logging.getLogger(__name__)
PARAMS_AT_ONCE = 100
PARAM_LENGTH = 6000


class TrackingError(RuntimeError):
    """MLflow did not take what must be told before work begins."""


def create_run(
    uri: str,
    experiment: str,
    name: str,
    *,
    parent: str | None = None,
    tags: Mapping[str, str],
    params: RunConfig | Mapping[str, Any],
) -> str:
    """A new run, for the driver; its id is handed to the workers, and a retry goes on with it.

    Settings given whole are flattened, and what `run_tags` tells of them is added to the tags. The
    tags `mien.lake` and `mien.lake_hash` also make the run's data set. Unlike a `Tracker`, this may
    wait for the server. TrackingError where it cannot be reached, or refuses.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(params, RunConfig):
        tags = {**_told_by(params, tags, child=parent is not None), **tags}
        params = flat_settings(params)
    own = {"mlflow.user": getpass.getuser(), **tags}
    if parent is not None:
        own["mlflow.parentRunId"] = parent
    try:
        client = ensure_store(uri)
        run = client.create_run(experiment_id(client, uri, experiment), tags=own, run_name=name)
        try:
            _log_params(client, run.info.run_id, params)
            if "mien.lake" in own:
                _log_lake(client, run.info.run_id, own["mien.lake"], own["mien.lake_hash"])
        except BaseException:
            with suppress(MlflowException, SQLAlchemyError):  # the first error is the one to tell
                client.set_terminated(run.info.run_id, "FAILED")
            raise
    except (MlflowException, SQLAlchemyError) as error:
        raise TrackingError(f"MLflow at {uri}: {_reason(error)}") from error
    return run.info.run_id


def knows(uri: str, run_id: str) -> bool:
    """Whether MLflow has the run. TrackingError where it cannot be asked."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    database = sqlite_path(uri)
    if database is not None and not database.exists():
        return False
    try:
        ensure_store(uri).get_run(run_id)
    except (MlflowException, SQLAlchemyError) as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise TrackingError(f"MLflow at {uri}: {_reason(error)}") from error
    return True


def _reason(error: Exception) -> str:
    """In one line; of what a database refused its own words, not what SQLAlchemy says of them."""
    cause = error if error.__cause__ is None else error.__cause__
    return str(getattr(cause, "orig", None) or error).splitlines()[0]


def _told_by(run: RunConfig, tags: Mapping[str, str], *, child: bool) -> dict[str, str]:
    kind = tags.get("mien.kind", "fold" if child else "train")
    return run_tags(
        run, kind=kind, lake_hash=tags.get("mien.lake_hash", ""), fold=tags.get("mien.fold")
    )


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    ready = [Param(mlflow_name(key), str(value)[:PARAM_LENGTH]) for key, value in params.items()]
    for start in range(0, len(ready), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=ready[start : start + PARAMS_AT_ONCE])


def mlflow_name(name: str) -> str:
    """The name as MLflow takes it: `trunk.*` and `Smile (%)` have signs that it refuses."""
    return re.sub(r"[^\w/.\- :]", "_", name)


def _log_lake(client: MlflowClient, run_id: str, name: str, digest: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=name, digest=digest[:36], source_type="lake", source=json.dumps({"lake": name})
    )
    tags = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])


def flat_settings(run: RunConfig) -> dict[str, str]:
    """The settings by dotted path, as MLflow's parameters."""
    flat: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[path] = ", ".join(map(str, value))
        else:
            flat[path] = "" if value == {} else str(value)

    walk(plain(run), "")
    return flat


@lru_cache(maxsize=1)
def code_version() -> str:
    """The commit of this checkout, with -dirty where files differ; "unknown" without git."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def run_tags(
    run: RunConfig, *, kind: str, lake_hash: str, fold: str | None = None, note: str = ""
) -> dict[str, str]:
    """The tags by which runs are found again; `kind` is train, crossval, fold, study or trial."""
    system = f"{run.system_name}.{run.recipe}"
    where = f"fold {fold} of lake `{lake_hash[:12]}`" if fold else f"lake `{lake_hash[:12]}`"
    least = "" if run.engine.least_workers is None else f"{run.engine.least_workers} to "
    engine = f"{least}{run.engine.workers} worker(s), {run.engine.precision}, seed {run.seed}"
    text = f"**{system}** ({kind}) on {where}; {engine}.\n\n{note}".strip()
    return {
        "mien.kind": kind,
        "mien.system": run.system_name,
        "mien.recipe": run.recipe,
        "mien.fold": fold or "",
        "mien.lake_hash": lake_hash,
        "mien.code_version": code_version(),
        "mlflow.source.name": f"mien {kind}",
        "mlflow.source.git.commit": code_version().removesuffix("-dirty"),
        "mlflow.note.content": text,
    }


class Tracker:
    """What rank 0 tells of a run. Nothing here waits for MLflow, and nothing raises.

    Steps count images. What is logged for a step is sent once `commit` says that a checkpoint holds
    it; after a resume call `rollback` with the checkpoint's step before anything else. A journal
    that cannot be written (a full disk) is reported once in the log; it is written when it can be.
    """

    def __init__(
        self, uri: str, run_id: str, journal: Path, *, system_metrics: bool = True
    ) -> None:
        self._run_id = run_id
        self._told_of_failure = False
        self._outbox = Outbox(journal)
        self._sender = Sender(uri, run_id, self._outbox, system_metrics=system_metrics)
        self._sender.start()

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Values by name, such as `train/<term>` or `validation/macro_recall`; None is left out."""
        time_ms = now_ms()
        points = [
            Point(key=mlflow_name(key), value=float(value), step=step, time_ms=time_ms)
            for key, value in values.items()
            if value is not None
        ]
        with self._guarded():
            self._outbox.add(list(points))

    def image(self, name: str, image_HWC: np.ndarray, step: int) -> None:
        """A picture (uint8) of the series `name`, shown in MLflow by step."""
        time_ms = now_ms()
        unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{self._run_id}/{name}/{step}")
        file = f"{name.replace('/', '~')}+step+{step}+timestamp+{time_ms}+{unique}.png"
        picture = Picture(key=name, file=file, step=step, time_ms=time_ms)
        with self._guarded():
            if self._outbox.is_new(picture):
                self._outbox.pictures_dir.mkdir(exist_ok=True)
                Image.fromarray(image_HWC).save(self._outbox.pictures_dir / file, compress_level=3)
                self._outbox.add([picture])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file or folder for the run's artifacts; it must stay where it is until it is sent."""
        with self._guarded():
            self._outbox.add([File(path=str(path.absolute()), folder=folder)])
        self._sender.wake()

    def sync(self) -> None:
        """Make what was logged survive the machine; to be called before a checkpoint is written."""
        with self._guarded():
            self._outbox.sync()

    def commit(self, step: int) -> None:
        """A checkpoint holds `step`: all that was logged up to it may be sent."""
        with self._guarded():
            self._outbox.commit(step)
        self._sender.wake()

    def rollback(self, step: int) -> None:
        """Training resumes after `step` (0: from its beginning): later entries are forgotten."""
        with self._guarded():
            self._outbox.rollback(step)
        self._sender.wake()

    def close(self, status: Status, *, timeout_seconds: float = 15.0) -> bool:
        """End the run in MLflow; wait a bounded time for what is left. Whether all was sent.

        All that was logged counts from now on, committed or not: of a run that failed, the last
        steps tell why. What was not sent stays in the journal; `deliver` sends it.
        """
        with self._guarded():
            self._outbox.commit_all()
        done = self._sender.finish(status, timeout_seconds)
        if done:
            with self._guarded():
                self._outbox.mark_all_sent()
        else:
            LOG.warning(
                "MLflow did not take everything of run %s; the rest waits in %s",
                self._run_id,
                self._outbox.path,
            )
        with self._guarded():
            self._outbox.close()
        return done

    def leave(self) -> None:
        """What was logged waits in the journal for another process, in which the run goes on."""
        self._sender.leave()
        with self._guarded():
            self._outbox.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._told_of_failure:
                LOG.error("what run %s tells waits in memory: %s", self._run_id, error)
            self._told_of_failure = True


def deliver(
    uri: str, run_id: str, journal: Path, status: Status, *, timeout_seconds: float = 60.0
) -> bool:
    """Send what an ended process left in its journal, and set the run's final status.

    Whether nothing is left. The process may have ended before it told anything at all.
    """
    tracker = Tracker(uri, run_id, journal, system_metrics=False)
    return tracker.close(status, timeout_seconds=timeout_seconds)


def add_to_run(
    uri: str,
    run_id: str,
    figures: Mapping[str, float],
    pictures: Mapping[str, np.ndarray],
    tags: Mapping[str, str],
) -> str | None:
    """Figures, pictures and tags for a run that has ended; what kept MLflow from them, or None.

    Unlike a `Tracker`, this leaves the run's status as it is, and tries once.
    """
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        return f"there is no database {database}"
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    points = [Metric(mlflow_name(key), value, now_ms(), 0) for key, value in figures.items()]
    try:
        client = ensure_store(uri)
        for start in range(0, len(points), POINTS_AT_ONCE):
            client.log_batch(run_id, metrics=points[start : start + POINTS_AT_ONCE])
        for name, value in tags.items():
            client.set_tag(run_id, name, value)
        for name, picture in pictures.items():
            client.log_image(run_id, picture, f"{name}.png")
    except (MlflowException, OSError) as error:
        return str(error).splitlines()[0]
    return None
