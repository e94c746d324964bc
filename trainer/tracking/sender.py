"""The thread that tells MLflow. Sending twice is harmless, so whatever fails is simply sent again.

A point keeps its first time stamp and MLflow keeps one point per key, step, time and value; a
picture keeps its file name. After a restart MLflow is asked which points it already has.
"""

from __future__ import annotations

import logging
import shutil
import threading
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from PIL import Image

from cluster.mlflow_store import ensure_store
from trainer.tracking.outbox import File, Outbox, Picture, Point, now_ms

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOG = logging.getLogger(__name__)
POINTS_AT_ONCE = 1000
SYSTEM_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 30.0
PERMANENT = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Sender(threading.Thread):
    """Sends what is due in the outbox, in order; pauses grow while MLflow does not answer."""

    def __init__(self, uri: str, run_id: str, outbox: Outbox, *, system_metrics: bool) -> None:
        super().__init__(name=f"mlflow-{run_id[:8]}", daemon=True)
        self._uri = uri
        self._run_id = run_id
        self._outbox = outbox
        self._client: MlflowClient | None = None
        self._already: set[tuple[str, int]] = set()
        self._note = ""
        self._monitors: list[Any] | None = None if system_metrics else []
        self._started_ms = now_ms()
        self._status: Status | None = None
        self._wake = threading.Event()
        self._leave = threading.Event()
        self._finished = threading.Event()

    def wake(self) -> None:
        """Something is due."""
        self._wake.set()

    def finish(self, status: Status, timeout_seconds: float) -> bool:
        """Send the rest and end the run in MLflow; whether that was done in time."""
        self._status = status
        self._wake.set()
        done = self._finished.wait(timeout_seconds)
        self._leave.set()
        self._wake.set()
        return done

    def leave(self, timeout_seconds: float = 15.0) -> None:
        """Send no more; the run goes on elsewhere."""
        self._leave.set()
        self._wake.set()
        self.join(timeout_seconds)

    def run(self) -> None:
        """Until all is sent and the run has ended, or `finish` no longer waits."""
        pause = 1.0
        while not self._leave.is_set() and not self._finished.is_set():
            try:
                self._deliver()
                pause = 1.0
                self._wake.wait(SYSTEM_SECONDS)
            except Exception as error:  # whatever MLflow throws, training goes on
                level = logging.WARNING if pause == 1.0 else logging.DEBUG
                LOG.log(level, "MLflow at %s does not answer: %s", self._uri, _line(error))
                self._wake.wait(pause if self._status is None else 1.0)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            self._wake.clear()

    def _deliver(self) -> None:
        if self._client is None:
            self._client = self._connect()
        status = self._status
        while self._outbox.due and not self._leave.is_set():
            self._send_next(self._client)
        if status is not None and not self._leave.is_set():
            self._client.set_terminated(self._run_id, status)
            self._finished.set()
        elif not self._leave.is_set():
            self._send_system_metrics(self._client)

    def _connect(self) -> MlflowClient:
        client = ensure_store(self._uri)
        run = client.get_run(self._run_id)
        self._started_ms = run.info.start_time
        self._note = run.data.tags.get("mlflow.note.content", "")
        if run.info.status != "RUNNING":
            client.update_run(self._run_id, status="RUNNING")
        for key in run.data.metrics:
            if not key.startswith("system/"):
                history = client.get_metric_history(self._run_id, key)
                self._already.update((key, point.step) for point in history)
        return client

    def _send_next(self, client: MlflowClient) -> None:
        """Send points that are due, or where there are none the first entry; then take them off.

        Points go first: where pictures and files go may be away while figures are taken.
        """
        with self._outbox.lock:
            points = (entry for entry in self._outbox.due if isinstance(entry, Point))
            entries = list(islice(points, POINTS_AT_ONCE)) or [self._outbox.due[0]]
        self._give(client, entries)
        sent = set(map(id, entries))
        with self._outbox.lock:
            left = [entry for entry in self._outbox.due if id(entry) not in sent]
            self._outbox.due.clear()
            self._outbox.due.extend(left)

    def _give(self, client: MlflowClient, entries: list[Any]) -> None:
        """Send the entries; what MLflow refuses, sent by itself, is given up, and said."""
        try:
            self._send(client, entries)
        except Exception as error:
            if getattr(error, "error_code", None) not in PERMANENT:
                raise
            if len(entries) == 1:
                LOG.error("MLflow refuses %s of run %s: %s", entries[0], self._run_id, _line(error))
                return
            for entry in entries:
                self._give(client, [entry])

    def _send(self, client: MlflowClient, entries: list[Any]) -> None:
        first = entries[0]
        if isinstance(first, Picture):
            self._send_picture(client, first)
        elif isinstance(first, File):
            self._send_file(client, first)
        else:
            self._send_points(client, entries)

    def _send_points(self, client: MlflowClient, points: list[Point]) -> None:
        from mlflow.entities import Metric

        new = [point for point in points if (point.key, point.step) not in self._already]
        metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in new]
        if metrics:
            client.log_batch(self._run_id, metrics=metrics)

    def _send_picture(self, client: MlflowClient, picture: Picture) -> None:
        """The picture and a small copy, under the names by which MLflow's page finds a series.

        The newest of a series is also an artifact of its own, which the run's description shows.
        """
        path = self._outbox.pictures_dir / picture.file
        if not path.exists():
            return
        small = path.with_name(f"{path.stem}+compressed.webp")
        try:
            image = Image.open(path)
            image.load()
        except (OSError, SyntaxError) as error:  # half of it is lost with the machine's power
            LOG.error("%s is no picture any more: %s", path, error)
            path.unlink()
            return
        with image:
            image.thumbnail((256, 256))
            image.save(small)
        for file in (path, small):
            client.log_artifact(self._run_id, str(file), "images")
        client.set_tag(self._run_id, "mlflow.loggedImages", "true")
        newest = path.with_name(f"{picture.key.replace('/', '~')}.png")
        shutil.copyfile(path, newest)
        client.log_artifact(self._run_id, str(newest))
        self._describe(client, picture.key, newest.name)
        for file in (newest, small, path):
            file.unlink()

    def _describe(self, client: MlflowClient, key: str, file: str) -> None:
        """Show the newest picture of the series in the run's description."""
        link = f"![{key}](get-artifact?path={quote(file)}&run_uuid={self._run_id})"
        if link not in self._note:
            self._note = f"{self._note}\n\n{link}".strip()
            client.set_tag(self._run_id, "mlflow.note.content", self._note)

    def _send_file(self, client: MlflowClient, file: File) -> None:
        path = Path(file.path)
        if path.is_dir():
            client.log_artifacts(self._run_id, file.path, file.folder)
        elif path.exists():
            client.log_artifact(self._run_id, file.path, file.folder)
        else:
            LOG.error("%s is gone before it could be sent to MLflow", path)
        self._outbox.mark_sent(file)

    def _send_system_metrics(self, client: MlflowClient) -> None:
        """What this machine is busy with, by seconds since the run began; for MLflow's own tab."""
        from mlflow.entities import Metric

        if self._monitors is None:
            self._monitors = _monitors()
        time_ms = now_ms()
        seconds = max((time_ms - self._started_ms) // 1000, 0)
        metrics = []
        for monitor in self._monitors:
            monitor.collect_metrics()
            values = monitor.aggregate_metrics()
            monitor.clear_metrics()
            metrics += [Metric(f"system/{k}", v, time_ms, seconds) for k, v in values.items()]
        if metrics:
            client.log_batch(self._run_id, metrics=metrics)


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors: list[Any] = [CPUMonitor()]
    try:
        monitors.append(GPUMonitor())
    except Exception as error:
        LOG.debug("no GPU is watched: %s", error)
    return monitors


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
