"""What control groups leave: both versions of them, groups within groups, none at all."""

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cluster import limits
from cluster.resources import usable_cpus

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes what this process is in, and what the files of its groups say."""

    def write(membership: str, **files: str) -> None:
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    monkeypatch.setattr(limits, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(limits, "GROUPS", tmp_path / "groups")
    return write


def test_the_tightest_of_all_groups_counts(groups):
    groups(
        "0::/job/step\n",
        job__step__memory_DOT_max="max",
        job__memory_DOT_max=str(GIB // 4),
        memory_DOT_max=str(GIB // 2),
        job__step__cpu_DOT_max="350000 100000",
        job__cpu_DOT_max="max 100000",
    )
    assert limits.memory_bytes() == GIB // 4
    assert limits.cpu_quota() == 4


def test_groups_of_the_first_version_have_trees_of_their_own(groups):
    groups(
        "4:memory:/job\n3:cpu,cpuacct:/\n0::/\n",
        memory__job__memory_DOT_limit_in_bytes=str(GIB // 8),
    )
    assert limits.memory_bytes() == GIB // 8
    assert limits.cpu_quota() is None


def test_a_container_that_does_not_see_its_own_path_reads_the_root(groups):
    groups("0::/docker/0123\n", cpu_DOT_max="100000 100000", memory_DOT_max=str(GIB // 16))
    assert limits.memory_bytes() == GIB // 16
    assert usable_cpus() == 1


def test_without_a_bound_the_machine_has_all(groups):
    groups("0::/\n", memory_DOT_max="max")
    assert limits.memory_bytes() == psutil.virtual_memory().total
    assert usable_cpus() == len(os.sched_getaffinity(0))


def test_a_system_without_control_groups(monkeypatch):
    monkeypatch.setattr(limits, "MEMBERSHIP", Path("/nonexistent"))
    assert limits.memory_bytes() == psutil.virtual_memory().total
    assert limits.cpu_quota() is None


def test_what_is_left_is_what_the_fullest_group_has_left(groups):
    groups(
        "0::/job/step\n",
        job__step__memory_DOT_max="max",
        job__memory_DOT_max=str(GIB // 8),
        job__memory_DOT_current=str(GIB // 8),
        job__memory_DOT_stat=f"anon 5\ninactive_file {GIB // 32}\nactive_file {GIB // 64}",
        memory_DOT_max=str(GIB // 4),
        memory_DOT_current=str(GIB // 8),
    )
    assert limits.free_bytes() == GIB // 32 + GIB // 64, "files in memory make way"


def test_what_a_group_of_the_first_version_has_left(groups):
    groups(
        "4:memory:/job\n",
        memory__job__memory_DOT_limit_in_bytes=str(GIB // 8),
        memory__job__memory_DOT_usage_in_bytes=str(GIB // 16),
        memory__job__memory_DOT_stat=f"active_file 5\ntotal_active_file {GIB // 64}",
    )
    assert limits.free_bytes() == GIB // 16 + GIB // 64


def test_without_a_bound_all_that_is_available_is_left(groups, monkeypatch):
    groups("0::/\n", memory_DOT_current=str(GIB))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=GIB))
    assert limits.free_bytes() == GIB
