"""`mien doctor` on a running cluster: which machines it looks for, and where it is not let in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from cluster import nodes, session
from cluster.config import ClusterConfig, read
from cluster.doctor import examine_cluster

ROOT = Path(__file__).parents[2]
OWN, CLOUD = ROOT / "ray_cluster.yaml", ROOT / "cluster" / "examples" / "aws_gpu.yaml"


@pytest.mark.parametrize(("file", "known"), [(OWN, read(OWN)), (CLOUD, None), (None, None)])
def test_the_machines_of_the_file_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, file: Path | None, known: ClusterConfig | None
) -> None:
    asked = []
    monkeypatch.setattr(session, "connect", nullcontext)
    monkeypatch.setattr(nodes, "examine_nodes", lambda config: asked.append(config) or [])
    assert list(examine_cluster(file)) == []
    assert asked == [known]


def test_a_cluster_that_lets_nobody_in_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def refuse() -> Iterator[None]:
        raise RuntimeError("Version mismatch: the cluster has Ray 2.59")
        yield

    monkeypatch.setattr(session, "connect", refuse)
    (check,) = examine_cluster()
    assert (check.name, check.state) == ("cluster", "fail")
    assert "Version mismatch" in check.found and "make setup" in check.mend
