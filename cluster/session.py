"""One way to Ray: a local one that ends with the caller, or a running one at an address.

A local Ray uses the loopback address and asks for a token that only this process and its children
know. What Ray and its workers say goes to a log file; nothing of it reaches the terminal.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.home import home, tracking_uri
from cluster.joining import listens_on_loopback_alone
from cluster.resources import Capacity, usable_cpus
from cluster.room import capacity

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("cluster", "data_service", "trainer", "tuning")
STORE_BYTES_PER_CPU = 100_000_000
LEAST_STORE_BYTES, MOST_STORE_BYTES = 400_000_000, 2_000_000_000
"""Of Ray's object store: batches in flight and little else, as faces are memory-mapped."""

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "25",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",  # a worker that hangs would be waited for again
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "600",
}

ON_ONE_MACHINE = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""A head that this machine has lost does not come back, as one behind a link may; and nobody takes
a part of the machine away with a warning."""

ON_A_CLUSTER = {"RAY_gcs_rpc_server_reconnect_timeout_s": "30"}
"""A link that is down for 20 s is ridden out; who has lost the head for longer ends and says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A Ray to work on; `owned` when this process started it and ends it."""

    address: str
    capacity: Capacity
    log_file: Path
    owned: bool


@contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    log_file: Path | None = None,
) -> Iterator[Session]:
    """Ray for the length of the block; inside another `connect` it gives the Ray that is there.

    `address` (by default `RAY_ADDRESS`) joins a running cluster, which is left running at the end;
    without one a local Ray of `num_cpus` starts, by default with every core. `log_file` takes what
    Ray and its workers say, by default `logs/ray.log` at home. ValueError when nothing answers at
    the address, or when it wants another token.
    """
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or None
    log_file = log_file or home() / "logs" / "ray.log"
    if ray.is_initialized():
        yield _describe(ray.get_runtime_context().gcs_address, log_file, owned=False)
        return
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with _logging_to(log_file):
        opened = _join(ray, address, log_file) if address else _start(ray, num_cpus, log_file)
        own = ON_A_CLUSTER if address else {**worker_environment(), **ON_ONE_MACHINE}
        with _variables(own), opened:
            yield _describe(address or "local", log_file, owned=address is None)


def wait_for_nodes(count: int, seconds: float) -> None:
    """Until `count` nodes are in the connected Ray; TimeoutError says how many there are."""
    import ray

    deadline = time.monotonic() + seconds
    while (found := sum(bool(node["Alive"]) for node in ray.nodes())) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} of {count} nodes have joined within {seconds:.0f} s")
        time.sleep(0.5)


def local_capacity() -> Capacity | None:
    """What a local Ray would have, without starting one; None where `RAY_ADDRESS` names another."""
    import torch

    if os.environ.get("RAY_ADDRESS"):
        return None
    return Capacity(cpus=usable_cpus(), gpus=torch.cuda.device_count())


def store_bytes(cpus: int) -> int:
    """The object store of a local Ray on so many CPUs; Ray refuses what memory cannot hold."""
    return min(max(LEAST_STORE_BYTES, STORE_BYTES_PER_CPU * cpus), MOST_STORE_BYTES)


def worker_environment() -> dict[str, str]:
    """What every process of mien needs in its environment, wherever it runs.

    Nothing of it may follow from what this machine is: others have GPUs where it has none.
    """
    path = [str(PROJECT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **SETTINGS,
        "MIEN_HOME": str(home()),
        "MLFLOW_TRACKING_URI": tracking_uri(),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
    }


@contextmanager
def _start(ray: Any, num_cpus: int | None, log_file: Path) -> Iterator[None]:
    """A local Ray, which inherits this process' environment; its files go when it ends well."""
    import torch

    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    _use_tokens("token")
    # Short: the paths of Ray's sockets below it must stay under 107 bytes.
    folder = tempfile.mkdtemp(prefix="mien-", dir="/tmp")
    cpus = num_cpus or usable_cpus()
    with _loopback_alone(ray):
        _initialise(
            ray,
            log_file,
            address="local",
            num_cpus=cpus,
            num_gpus=torch.cuda.device_count(),
            object_store_memory=store_bytes(cpus),
            include_dashboard=True,  # Ray Train's cleaner of placement groups asks it
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
    try:
        yield
    except BaseException:
        logging.getLogger("ray").error("the logs of this Ray are kept below %s", folder)
        ray.shutdown()
        raise
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """This process' environment with the values for the block, for what starts in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _loopback_alone(ray: Any) -> Iterator[None]:
    """Else Ray turns 127.0.0.1 into the machine's address, and its gRPC servers listen on all."""
    constants = ray._private.ray_constants
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _join(ray: Any, address: str, log_file: Path) -> Iterator[None]:
    """A running cluster; its workers get mien's modules and environment with the job."""
    _use_tokens(os.environ.get("RAY_AUTH_MODE", "token"))
    try:
        with _loopback_alone(ray) if listens_on_loopback_alone(address) else nullcontext():
            _initialise(
                ray,
                log_file,
                address=address,
                runtime_env={
                    "env_vars": worker_environment(),
                    "py_modules": [str(PROJECT / package) for package in PACKAGES],
                },
            )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no Ray that lets this process in at '{address}': {reason} Valid: host:port of a "
            "running head whose token is in RAY_AUTH_TOKEN or ~/.ray/auth_token, or auto"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _use_tokens(mode: str) -> None:
    """Says so explicitly, also to a Ray that read its settings when it was imported."""
    from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue]  # compiled

    os.environ["RAY_AUTH_MODE"] = mode
    Config.initialize("")


def _describe(address: str, log_file: Path, *, owned: bool) -> Session:
    return Session(address=address, capacity=capacity(), log_file=log_file, owned=owned)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Ray's own loggers write to the file at `path`, and nowhere else."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ray")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        handler.close()


def _initialise(ray: Any, log_file: Path, **settings: Any) -> None:
    """`ray.init`, after which what workers print goes to `log_file` and SIGTERM is ours again."""
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    logger = logging.getLogger("ray")
    ours = [kept for kept in logger.handlers if isinstance(kept, logging.FileHandler)]
    ray.init(configure_logging=False, **settings)
    logger.handlers[:] = ours  # ray.init has taken them away
    if main:
        signal.signal(signal.SIGTERM, handler)
    dispatcher.remove_handler("ray_print_logs")
    dispatcher.remove_handler("mien")
    dispatcher.add_handler("mien", _writer(log_file))


def _writer(path: Path) -> Callable[[Mapping[str, Any]], None]:
    """Appends what the workers of a job printed, each line with who said it."""

    def write(batch: Mapping[str, Any]) -> None:
        if batch["pid"] == "autoscaler":
            return
        who = batch.get("actor_name") or batch.get("task_name") or "worker"
        with path.open("a") as file:
            file.writelines(f"({who} pid={batch['pid']}) {line}\n" for line in batch["lines"])

    return write
