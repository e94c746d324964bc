"""A run of 2 to 4 workers: which counts share its batches, which fit, and what follows a loss."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.resources import Capacity
from cluster.room import fitting
from data_service.planning.needs import DataNeeds
from trainer import catalog, group
from trainer.config import RunConfig
from trainer.options import chosen_run
from trainer.system import Stage
from trainer.worker_counts import check_counts, counts_of
from tuning.setup import trial_run


def run_of(workers: str, *settings: str) -> RunConfig:
    return chosen_run("identity.tiny", list(settings), workers)


def test_the_command_line_gives_both_bounds():
    engine = run_of("2:4", "data.global_batch_images=24").engine
    assert (engine.least_workers, engine.least, engine.workers) == (2, 2, 4)
    engine = run_of("4").engine
    assert (engine.least_workers, engine.least, engine.workers) == (None, 4, 4)


def test_a_trial_has_one_worker_however_many_its_run_may_have():
    engine = trial_run(run_of("2:4", "data.global_batch_images=24")).engine
    assert (engine.workers, engine.least_workers) == (1, None)


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ("2:", "--workers 2:: valid: a number, or the least and the most, as in 2:4"),
        (":4", "--workers :4: valid"),
        ("1:2:4", "--workers 1:2:4: valid"),
        ("two", "--workers two: valid"),
        ("-1", "--workers -1: valid"),
        ("4:2", "engine.least_workers is 4; valid: 1 to 2, or none"),
        ("0:2", "engine.least_workers is 0; valid: 1 to 2, or none"),
        ("3:4", "which 3 workers cannot share equally; worker counts that can: 1, 2, 4, 8, 16"),
    ],
)
def test_bounds_that_cannot_be_are_refused(workers: str, says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        run_of(workers, "data.global_batch_images=32")


def stage(name: str, **needs: Any) -> Stage:
    return Stage(name=name, images=100, turns=(), data=DataNeeds(**needs) if needs else None)


@pytest.mark.parametrize(
    ("stages", "multiple", "counts"),
    [
        ([stage("only")], 1, (4, 3, 2, 1)),
        ([stage("only")], 4, (3, 2, 1)),
        ([stage("only")], 8, (3, 1)),
        ([stage("first"), stage("then", batch_images=16)], 1, (4, 2, 1)),
        ([stage("first", share_multiple=6), stage("then")], 1, (4, 2, 1)),
        ([stage("first", batch_images=5), stage("then")], 24, (1,)),
    ],
)
def test_counts_share_every_stage_in_whole_multiples(
    stages: list[Stage], multiple: int, counts: tuple[int, ...]
):
    run = run_of("1:4", "data.global_batch_images=24")
    assert counts_of(run, DataNeeds(share_multiple=multiple), stages) == counts


@pytest.mark.parametrize("workers", ["4", "2:4", "4:8"])
def test_a_count_is_refused_by_the_rule_that_an_elastic_run_chooses_by(workers: str):
    run, needs = run_of(workers, "data.global_batch_images=24"), DataNeeds(share_multiple=4)
    says = r"stage joint has batches of 24 images, which \d workers cannot share equally in "
    with pytest.raises(ValueError, match=rf"{says}multiples of 4; .* that can: 1, 2, 3, 6$"):
        check_counts(run, needs, [stage("joint")])
    check_counts(run_of("2:3", "data.global_batch_images=24"), needs, [stage("joint")])
    with pytest.raises(ValueError, match="stage own has batches of 6 images, which 4 workers"):
        check_counts(run_of("4"), DataNeeds(), [stage("own", batch_images=6)])


@pytest.mark.parametrize(
    ("recipe", "counts"), [("small", (8, 4, 2, 1)), ("small_single_task", (16, 8, 4, 2, 1))]
)
def test_faces_that_fersnet_edits_are_the_same_on_any_count(recipe: str, counts: tuple[int, ...]):
    """Every fourth face of a worker's share is edited, where any is; batches have 32."""
    run = chosen_run(f"fersnet.{recipe}", [], "1:16")
    needs = catalog.spec_of(run).data(run.system)
    assert counts_of(run, needs, [stage("joint")]) == counts


def test_the_first_count_that_fits_is_taken():
    four_cores, idle = Capacity(cpus=4), {"CPU": 4.0}
    assert [fitting((n,), four_cores).workers for n in (1, 4)] == [1, 4]
    assert fitting((5,), four_cores) is None
    assert fitting((8, 4, 2), four_cores).workers == 4
    assert fitting((4, 2), four_cores).threads == 1 and fitting((2,), four_cores).threads == 2
    assert fitting((4, 2), four_cores, idle).workers == 4
    # another run holds what four would need; a worker takes half a core's slot
    assert fitting((4, 2), four_cores, {"CPU": 1.5}).workers == 2
    assert fitting((4, 2), four_cores, {"CPU": 0.5}) is None
    assert fitting((4, 2), four_cores, {"CPU": 1.0}, held=2).workers == 4
    assert fitting((4, 2), four_cores, {"CPU": 0.5}, held=2).workers == 2


def test_with_gpus_every_worker_has_one():
    node = Capacity(cpus=16, gpus=2)
    assert fitting((4, 2), node).workers == 2
    assert fitting((4, 2), Capacity(cpus=16, gpus=4), {"CPU": 16.0, "GPU": 2.0}).workers == 2
    assert fitting((4, 2), node, {"CPU": 16.0, "GPU": 1.0}) is None


class Cluster:
    """A cluster of so many CPUs, all free, and what becomes of the groups that it is given."""

    def __init__(self, cpus: int, *ends: Callable[[], None]) -> None:
        self.cpus, self.ends, self.began = cpus, list(ends), []

    def fit(self, job: object, portion: SimpleNamespace, retries: int) -> None:
        assert retries == 0
        self.began.append(portion.workers)
        self.ends.pop(0)()


@pytest.fixture
def job(tmp_path: Path) -> SimpleNamespace:
    files = {name: tmp_path / name for name in ("leave_file", "left_file", "stop_file")}
    told = {"tracking_uri": "", "journal": tmp_path / "journal", "checkpoints": tmp_path}
    return SimpleNamespace(run_id="r", directory=tmp_path, **files, **told)


def trained(
    job: SimpleNamespace, cluster: Cluster, patch: pytest.MonkeyPatch, counts: tuple = (4, 3, 2)
) -> list[int]:
    """How many workers the groups had, one after another."""
    patch.setattr(group, "_fit", cluster.fit)
    patch.setattr(group, "capacity", lambda: Capacity(cpus=cluster.cpus))
    patch.setattr(group, "free", lambda: {"CPU": float(cluster.cpus)})
    patch.setattr(group, "wait_for_answers", lambda: None)
    group._fit_as_many(job, counts)
    return cluster.began


def test_a_lost_host_leaves_fewer_and_one_that_joins_makes_more(job, monkeypatch):
    def lost() -> None:
        cluster.cpus = 2
        raise group.GroupLostError("a worker died")

    def left() -> None:
        cluster.cpus = 3
        job.left_file.touch()

    cluster = Cluster(4, lost, left, lambda: None)
    assert trained(job, cluster, monkeypatch) == [4, 2, 3]


def test_a_run_whose_groups_are_always_lost_fails(job, monkeypatch):
    def lost() -> None:
        raise group.GroupLostError("a worker died")

    cluster = Cluster(4, *[lost] * 9)
    with pytest.raises(group.GroupLostError, match="a worker died"):
        trained(job, cluster, monkeypatch)
    assert cluster.began == [4] * 4


def test_losses_with_new_checkpoints_between_them_do_not_add_up(job, monkeypatch):
    def lost() -> None:
        (job.checkpoints / f"{len(cluster.began):09d}").mkdir()
        raise group.GroupLostError("a worker died")

    cluster = Cluster(4, *[lost] * 9, lambda: None)
    assert trained(job, cluster, monkeypatch) == [4] * 10


def test_what_is_wrong_for_good_is_not_tried_again(job, monkeypatch):
    def wrong() -> None:
        raise ValueError("the lake has changed")

    cluster = Cluster(4, wrong)
    with pytest.raises(ValueError, match="the lake has changed"):
        trained(job, cluster, monkeypatch)


def test_too_small_a_cluster_is_refused_at_once_and_waited_for_later(job, monkeypatch):
    with pytest.raises(ValueError, match="2 workers do not fit"):
        trained(job, Cluster(1), monkeypatch)

    def lost() -> None:
        cluster.cpus = 1
        job.stop_file.touch()
        raise group.GroupLostError("a worker died")

    monkeypatch.setattr(group, "deliver", lambda *told: None)
    cluster = Cluster(2, lost)
    with pytest.raises(KeyboardInterrupt, match=r"waited for workers; to go on .* --resume r"):
        trained(job, cluster, monkeypatch)
    monkeypatch.setattr(group, "WAIT_SECONDS", 0.1)
    job.stop_file.unlink()
    with pytest.raises(RuntimeError, match="room for 2 workers; the cluster has 1 CPU"):
        group._room(job, (4, 2))


def test_a_group_makes_way_only_for_a_larger_one(job, monkeypatch):
    cluster = Cluster(2, lambda: None)
    monkeypatch.setattr(group, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(group, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(group, "capacity", lambda: Capacity(cpus=cluster.cpus))
    monkeypatch.setattr(group, "free", lambda: {"CPU": float(cluster.cpus - 2) / 2})
    asked = []

    def touch() -> None:
        asked.append(True)

    monkeypatch.setattr(job, "leave_file", SimpleNamespace(touch=touch))
    with group._making_way(job, (4, 2), 2) as watcher:
        watcher.join(0.2)
        assert not asked
        cluster.cpus = 4
        watcher.join(5)
        assert asked == [True]
