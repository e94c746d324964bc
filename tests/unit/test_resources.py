from __future__ import annotations

import pytest

from cluster.resources import WORKER_CPUS, Capacity, share


@pytest.mark.parametrize(("workers", "parallel"), [(1, 1), (2, 1), (1, 2), (3, 2), (8, 1)])
def test_what_fits_leaves_half_of_each_core_for_the_stream(workers: int, parallel: int) -> None:
    capacity = Capacity(cpus=8)
    portion = share(workers, capacity, parallel=parallel)
    asked = workers * parallel
    assert portion.workers == workers
    assert asked * portion.worker_cpus <= capacity.cpus / 2
    assert portion.threads * asked <= capacity.cpus
    assert "GPU" not in portion.per_worker


def test_threads_share_the_cores() -> None:
    assert share(1, Capacity(cpus=8)).threads == 8
    assert share(3, Capacity(cpus=8)).threads == 2


def test_too_many_workers_are_refused_with_what_fits() -> None:
    with pytest.raises(ValueError, match=r"9 workers do not fit.*has 2 CPUs.*up to 2 workers"):
        share(9, Capacity(cpus=2))


def test_too_many_parallel_runs_are_refused_with_what_fits() -> None:
    with pytest.raises(ValueError, match=r"4 parallel runs of 2 workers.*fits: 3 parallel runs"):
        share(2, Capacity(cpus=6), parallel=4)
    with pytest.raises(ValueError, match=r"fits: up to 2 workers in one run"):
        share(4, Capacity(cpus=2), parallel=2)


@pytest.mark.parametrize(("workers", "parallel"), [(0, 1), (1, 0), (-1, 1)])
def test_nothing_is_not_a_number_of_workers(workers: int, parallel: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1 of each"):
        share(workers, Capacity(cpus=4), parallel=parallel)


def test_each_worker_of_a_run_has_a_gpu_of_its_own() -> None:
    capacity = Capacity(cpus=16, gpus=4, nodes=2)
    assert share(4, capacity).per_worker == {"CPU": WORKER_CPUS, "GPU": 1.0}
    with pytest.raises(ValueError, match=r"each needs a GPU.*16 CPUs, 4 GPUs and 2 nodes"):
        share(5, capacity)


def test_runs_of_one_worker_divide_a_gpu() -> None:
    portion = share(1, Capacity(cpus=16, gpus=2), parallel=5)
    assert portion.worker_gpus == pytest.approx(1 / 3)
