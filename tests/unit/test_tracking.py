"""The journal, and that MLflow gets every committed step exactly once."""

from __future__ import annotations

import json
import re
import socket
import threading
import time

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from cluster.mlflow_store import ensure_store
from trainer import catalog
from trainer.tracking import tracker as tracking
from trainer.tracking.outbox import File, Outbox, Point
from trainer.tracking.tracker import Tracker, TrackingError


@pytest.fixture
def run_id(store):
    return tracking.create_run(store, "tests", "a run", tags={}, params={})


def steps(store: str, run_id: str, key: str = "train/identity") -> list[int]:
    return [point.step for point in ensure_store(store).get_metric_history(run_id, key)]


def drop(tracker: Tracker) -> None:
    """What kill -9 leaves: the journal's file as it is, and nothing that still sends."""
    tracker._sender._leave.set()
    tracker._sender.wake()
    tracker._sender.join()


def wait_until_sent(tracker: Tracker, timeout_seconds: float = 10.0) -> None:
    end = time.monotonic() + timeout_seconds
    while tracker._outbox.due:
        assert time.monotonic() < end, "not sent in time"
        time.sleep(0.02)


def point(step: int, key: str = "train/identity") -> Point:
    return Point(key=key, value=float(step), step=step, time_ms=step)


def test_entries_are_open_until_a_checkpoint_holds_their_step(tmp_path):
    outbox = Outbox(tmp_path / "journal.jsonl")
    outbox.add([point(1), point(2), point(3)])
    assert not outbox.due
    outbox.commit(2)
    assert [entry.step for entry in outbox.due] == [1, 2]


def test_files_that_wait_are_found_where_the_home_moved(tmp_path):
    old, new = tmp_path / "runs" / "abc", tmp_path / "moved" / "abc"
    old.mkdir(parents=True)
    outbox = Outbox(old / "journal.jsonl")
    waiting = [File(path=str(old / name), folder=None) for name in ("result.json", "a/b.json")]
    sent = File(path=str(old / "run.json"), folder="record")
    outbox.add([waiting[0], sent, waiting[1], File(path="/etc/passwd", folder=None)])
    outbox.mark_sent(sent)
    outbox.close()
    new.parent.mkdir()
    old.rename(new)
    found = Outbox(new / "journal.jsonl").due
    assert [entry.path for entry in found] == [str(new / "result.json"), str(new / "a/b.json")]


def test_a_rollback_forgets_later_steps_and_a_step_is_taken_once(tmp_path):
    outbox = Outbox(tmp_path / "journal.jsonl")
    outbox.add([point(step) for step in (1, 2, 3, 4)])
    outbox.commit(2)
    again = Outbox(tmp_path / "journal.jsonl")
    again.rollback(3)
    again.add([point(2), point(4), point(5)])
    again.commit(5)
    assert [entry.step for entry in again.due] == [1, 2, 3, 4, 5]
    assert [e.step for e in Outbox(tmp_path / "journal.jsonl").due] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("torn", ['{"kind":"point","key":"tra', "\0" * 20])
def test_a_last_line_that_was_cut_off_is_dropped_and_told(tmp_path, caplog, torn):
    path = tmp_path / "journal.jsonl"
    outbox = Outbox(path)
    outbox.add([point(1)])
    outbox.close()
    Outbox(path).close()
    assert not caplog.text
    with path.open("a") as file:
        file.write(torn)
    again = Outbox(path)
    assert f"{path}: its last line was cut off; {len(torn)} bytes are dropped" in caplog.text
    again.add([point(2)])
    again.commit(2)
    assert [entry.step for entry in again.due] == [1, 2]
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    "line", [b"\0\0\0", b'{"kind":"point","k', b'{"kind":"po\xff"}', b"a\rb", b"", b'{"kind":"x"}']
)
def test_a_damaged_line_is_named_and_without_it_the_rest_is_told(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    outbox = Outbox(path)
    outbox.add([point(1), point(2), point(3)])
    outbox.commit(3)
    outbox.close()
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, *lines[2:], b""]))
    before = path.read_bytes()
    says = rf"^line 2 of {re.escape(str(path))} is damaged; take it out, and --resume goes on: .*$"
    with pytest.raises(ValueError, match=says):
        Outbox(path)
    assert path.read_bytes() == before
    path.write_bytes(b"\n".join([lines[0], *lines[2:], b""]))
    assert [entry.step for entry in Outbox(path).due] == [1, 3]


def test_a_killed_and_resumed_run_tells_every_step_once(store, run_id, tmp_path):
    journal = tmp_path / "journal.jsonl"
    first = Tracker(store, run_id, journal, system_metrics=False)
    for step in range(1, 8):
        first.metrics({"train/identity": 1.0 / step}, step)
        if step == 3:
            first.commit(3)
            wait_until_sent(first)
    drop(first)
    second = Tracker(store, run_id, journal, system_metrics=False)
    second.rollback(5)
    for step in range(6, 11):
        second.metrics({"train/identity": 1.0 / step}, step)
    second.commit(10)
    assert second.close("FINISHED")
    assert steps(store, run_id) == list(range(1, 11))
    assert ensure_store(store).get_run(run_id).info.status == "FINISHED"


def test_a_lost_journal_repeats_no_step(store, run_id, tmp_path):
    first = Tracker(store, run_id, tmp_path / "one.jsonl", system_metrics=False)
    for step in (1, 2, 3):
        first.metrics({"train/identity": 1.0}, step)
    first.commit(3)
    assert first.close("FAILED")
    second = Tracker(store, run_id, tmp_path / "two.jsonl", system_metrics=False)
    second.rollback(2)
    for step in (3, 4):
        second.metrics({"train/identity": 1.0}, step)
    second.commit(4)
    assert second.close("FINISHED")
    assert steps(store, run_id) == [1, 2, 3, 4]


def test_a_run_that_fails_tells_its_last_steps(store, run_id, tmp_path):
    tracker = Tracker(store, run_id, tmp_path / "journal.jsonl", system_metrics=False)
    tracker.metrics({"train/identity": float("nan"), "test/recall_fear": None}, 5)
    assert tracker.close("FAILED")
    assert steps(store, run_id) == [5]
    assert "test/recall_fear" not in ensure_store(store).get_run(run_id).data.metrics


def test_a_server_that_never_answers_keeps_nobody_waiting(tmp_path, monkeypatch):
    """Training logs on while the sender waits for an answer; the journal has it all."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    journal = tmp_path / "journal.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker(address, "0" * 32, journal, system_metrics=False)
        connection, _ = silent.accept()
        with connection:

            def log() -> None:
                for step in range(200):
                    tracker.metrics({"train/identity": float("nan")}, step)
                    tracker.commit(step)

            training = threading.Thread(target=log, daemon=True)
            training.start()
            training.join(timeout=60)
            assert not training.is_alive()
            assert not tracker.close("FINISHED", timeout_seconds=0.1)
    kept = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [one["step"] for one in kept if one["kind"] == "point"] == list(range(200))


def test_what_was_not_sent_can_be_delivered_later(store, run_id, tmp_path):
    journal = tmp_path / "journal.jsonl"
    lost = Tracker("http://127.0.0.1:9", run_id, journal, system_metrics=False)
    lost.metrics({"train/identity": 1.0}, 1)
    lost.commit(1)
    assert not lost.close("FINISHED", timeout_seconds=0.1)
    assert tracking.deliver(store, run_id, journal, "FINISHED")
    assert steps(store, run_id) == [1]


class FillingDisk:
    """A file that takes some bytes of each write, and none at all once `room` is used up."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content) -> int:
        taken = bytes(content[: min(self.room, 7)])
        if not taken:
            raise OSError(28, "No space left on device")
        self.room -= len(taken)
        return self.file.write(taken)


def test_a_full_disk_is_reported_once_and_nothing_is_lost(store, run_id, tmp_path, caplog):
    journal = tmp_path / "journal.jsonl"
    tracker = Tracker(store, run_id, journal, system_metrics=False)
    disk = FillingDisk(tracker._outbox._journal._file, room=100)
    tracker._outbox._journal._file = disk
    for step in range(1, 6):
        tracker.metrics({"train/identity": 1.0}, step)
    tracker.commit(3)
    assert caplog.text.count("No space left on device") == 1
    assert journal.stat().st_size == 100
    disk.room = 10_000
    tracker.metrics({"train/identity": 1.0}, 6)
    assert tracker.close("FINISHED")
    assert steps(store, run_id) == [1, 2, 3, 4, 5, 6]
    kept = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [one["step"] for one in kept if one["kind"] == "point"] == [1, 2, 3, 4, 5, 6]


def test_pictures_and_files_arrive_once_under_mlflows_names(store, run_id, tmp_path):
    journal = tmp_path / "journal.jsonl"
    (tmp_path / "scorecard.json").write_text("{}")
    tracker = Tracker(store, run_id, journal, system_metrics=False)
    for _ in range(2):
        tracker.image("samples/edits", np.zeros((8, 12, 3), np.uint8), 64)
        tracker.commit(64)
        wait_until_sent(tracker)
    tracker.artifact(tmp_path / "scorecard.json", "test")
    assert tracker.close("FINISHED")
    client = ensure_store(store)
    pictures = [item.path for item in client.list_artifacts(run_id, "images")]
    assert len(pictures) == 2 and all(
        p.startswith("images/samples~edits+step+64+") for p in pictures
    )
    assert [item.path for item in client.list_artifacts(run_id, "test")] == ["test/scorecard.json"]
    assert "samples~edits.png" in [item.path for item in client.list_artifacts(run_id)]
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert note.count("get-artifact?path=samples~edits.png&run_uuid=") == 1
    assert not list((tmp_path / "journal.pictures").iterdir())


def test_a_run_carries_its_parent_settings_and_lake(store):
    parent = tracking.create_run(store, "tests", "parent", tags={}, params={})
    params = {f"system.weights.term_{n}": n for n in range(150)} | {"long": "x" * 9000}
    child = tracking.create_run(
        store,
        "tests",
        "child",
        parent=parent,
        tags={"mien.lake": "drawn", "mien.lake_hash": "f" * 64},
        params=params,
    )
    run = ensure_store(store).get_run(child)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["mlflow.runName"] == "child"
    assert len(run.data.params) == 151
    assert run.inputs.dataset_inputs[0].dataset.name == "drawn"


def test_a_deleted_experiment_is_one_clear_line(store):
    client = ensure_store(store)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(ValueError, match="'gone' was deleted"):
        tracking.create_run(store, "gone", "a run", tags={}, params={})


def test_a_server_out_of_reach_is_one_clear_line():
    with pytest.raises(
        tracking.TrackingError, match=r"^MLflow at http://127\.0\.0\.1:9: "
    ) as found:
        tracking.create_run("http://127.0.0.1:9", "e", "a run", tags={}, params={})
    assert "\n" not in str(found.value)


def test_names_that_mlflow_refuses_are_mended(store, tmp_path):
    params = {"lr_scale.trunk.*": 0.1}
    run_id = tracking.create_run(store, "tests", "a run", tags={}, params=params)
    tracker = Tracker(store, run_id, tmp_path / "journal.jsonl")
    tracker.metrics({"test/Smile (%)": 0.5}, 1)
    assert tracker.close("FINISHED")
    run = ensure_store(store).get_run(run_id)
    assert run.data.params == {"lr_scale.trunk._": "0.1"}
    assert run.data.metrics["test/Smile ___"] == 0.5


def test_every_recipe_s_settings_have_names_that_mlflow_takes():
    recipes = [f"{name}.{one}" for name in catalog.names() for one in catalog.load(name).recipes]
    keys = {key for recipe in recipes for key in tracking.flat_settings(catalog.recipe(recipe))}
    assert any("*" in key for key in keys), "oadn.paper's rate of its trunk"
    assert all(re.fullmatch(r"[/\w.\- :]+", tracking.mlflow_name(key)) for key in keys)


def test_a_run_that_could_not_be_begun_is_closed(store, monkeypatch):
    def refused(*_):
        raise MlflowException("no")

    monkeypatch.setattr(tracking, "_log_params", refused)
    with pytest.raises(TrackingError, match="no"):
        tracking.create_run(store, "refused", "a run", tags={}, params={})
    client = ensure_store(store)
    (experiment,) = [one for one in client.search_experiments() if one.name == "refused"]
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]


def test_figures_are_told_while_pictures_have_nowhere_to_go(store, run_id, tmp_path, monkeypatch):
    def away(*_):
        raise OSError("no such bucket")

    monkeypatch.setattr("mlflow.MlflowClient.log_artifact", away)
    tracker = Tracker(store, run_id, tmp_path / "journal.jsonl")
    tracker.image("samples", np.zeros((8, 8, 3), np.uint8), 1)
    tracker.metrics({"train/identity": 1.0}, 2)
    tracker.commit(2)
    end = time.monotonic() + 10
    while not steps(store, run_id):
        assert time.monotonic() < end, "not sent in time"
        time.sleep(0.02)
    assert len(tracker._outbox.due) == 1
    monkeypatch.undo()
    assert tracker.close("FINISHED", timeout_seconds=30.0)


def test_a_picture_that_was_lost_with_the_power_is_given_up(store, run_id, tmp_path):
    tracker = Tracker(store, run_id, tmp_path / "journal.jsonl")
    tracker.image("samples", np.zeros((8, 8, 3), np.uint8), 1)
    (file,) = tracker._outbox.pictures_dir.iterdir()
    file.write_bytes(b"")
    tracker.metrics({"train/identity": 1.0}, 1)
    assert tracker.close("FINISHED")
    assert steps(store, run_id) == [1] and not file.exists()


def test_one_point_that_is_refused_takes_no_other_with_it(store, run_id, tmp_path):
    tracker = Tracker(store, run_id, tmp_path / "journal.jsonl")
    tracker._outbox.add([point(1), point(2, key="refused?"), point(3)])
    assert tracker.close("FINISHED")
    assert steps(store, run_id) == [1, 3]
