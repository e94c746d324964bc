"""The one way to Ray, on a real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import ray

from cluster.session import Session, connect


def test_workers_find_the_project_and_say_nothing_on_the_terminal(
    ray_session: Session, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    @ray.remote
    def look() -> tuple[str, str | None]:
        import cluster.home

        print("a worker's chatter")
        return cluster.home.__file__, os.environ.get("MIEN_HOME")

    found, home = ray.get(look.remote())
    assert found.endswith("cluster/home.py")
    assert home == str(ray_session.log_file.parent / "home")
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
        assert inner.capacity.cpus == ray_session.capacity.cpus == 2
    assert ray.is_initialized()


def test_ray_asks_for_its_token_and_leaves_sigterm_alone(ray_session: Session) -> None:
    assert ray_session.owned
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_process_joins_a_local_ray(ray_session: Session) -> None:
    script = (
        "import sys, ray\n"
        "from cluster.session import connect\n"
        "with connect(sys.argv[1]):\n"
        "    print(ray.get(ray.remote(lambda: 6 * 7).remote()))\n"
    )
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", script, address], capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


def test_where_nothing_listens_is_told_at_once(own_home: Path) -> None:
    script = "from cluster.session import connect\nwith connect('127.0.0.1:9'): pass"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert "no Ray that lets this process in at '127.0.0.1:9': nothing listens" in done.stderr


def test_a_session_leaves_the_environment_as_it_was(tmp_path: Path) -> None:
    """Another home's runs would else be told to the MLflow of the first."""
    script = (
        "import os; from cluster.session import connect\n"
        "def told(): return {k: v for k, v in os.environ.items() if not k.startswith('RAY_AUTH')}\n"
        "before = told()\n"
        "with connect(num_cpus=1): inside = told()\n"
        "assert inside['MLFLOW_TRACKING_URI'].startswith('sqlite:')\n"
        "changed = before.items() ^ told().items()\n"
        "assert not changed, changed\n"
    )
    environment = {**os.environ, "MIEN_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
