"""The one way to Ray, on a real one."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from cluster.session import Session, connect


def test_workers_find_the_project_and_say_nothing_on_the_terminal(
    ray_session: Session, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    @ray.remote
    def look() -> tuple[str, str | None]:
        import cluster.home

        print("a worker's chatter")
        return cluster.home.__file__, os.environ.get("DS_ACCELERATOR")

    found, accelerator = ray.get(look.remote())
    assert found.endswith("cluster/home.py")
    if ray_session.num_gpus == 0:
        assert accelerator == "cpu"
    deadline = threading.Event()
    for _ in range(50):
        if "a worker's chatter" in ray_session.log_file.read_text():
            break
        deadline.wait(0.1)
    assert "a worker's chatter" in ray_session.log_file.read_text()
    assert "chatter" not in "".join(capfd.readouterr())


def test_inside_a_session_the_same_ray_is_given(ray_session: Session) -> None:
    import ray

    with connect() as inner:
        assert not inner.owned
        assert inner.num_cpus == ray_session.num_cpus == 2
    assert ray.is_initialized()


def test_ray_asks_for_its_token_and_leaves_sigterm_alone(ray_session: Session) -> None:
    assert ray_session.owned
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
