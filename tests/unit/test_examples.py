"""The examples for clouds, Kubernetes and Slurm, as far as they can be tried without them."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.config import check

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "cluster" / "examples"
SILENT = {
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
CALLS = {
    "RAY_grpc_client_keepalive_timeout_ms": "30000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
}
CHECKS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}
"""How long who has fallen silent is waited for; the head checks."""
UNTOLD = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Ray sends its makers nothing."""


def said(values: dict[str, str]) -> set[str]:
    """The settings as a shell has them."""
    return {f"{name}={value}" for name, value in values.items()}


def test_a_cloud_file_passes_ray_s_own_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    assert check(EXAMPLES / "aws_gpu.yaml") == "mien-gpu, provider aws"
    text = (EXAMPLES / "aws_gpu.yaml").read_text()
    for old, new, says in (
        ("        max_workers: 4", "        max_workers: four", "23: available_node_types.gpu"),
        ("head_node_type: head", "head_node_typ: head", "did you mean head_node_type?"),
        ("RAY_AUTH_MODE=token ", "", "must `ray start` with RAY_AUTH_MODE=token"),
    ):
        path = tmp_path / "cluster.yaml"
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=r"cluster\.yaml:") as error:
            check(path)
        assert says.partition(": ")[2] in str(error.value)


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.mark.parametrize("name", ["kuberay_cluster.yaml", "kuberay_job.yaml"])
def test_kuberay_files_have_what_the_operator_and_mien_need(name: str) -> None:
    values = yaml.safe_load((EXAMPLES / name).read_text())
    assert values["apiVersion"] == "ray.io/v1"
    spec = values["spec"]
    if values["kind"] == "RayJob":
        assert "mien --address auto " in spec["entrypoint"]
        spec = spec["rayClusterSpec"]
    assert spec["rayVersion"] == version("ray")
    assert spec["authOptions"] == {"mode": "token"}
    for group in groups(spec):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        environment = {item["name"]: item["value"] for item in container["env"]}
        assert {"MIEN_HOME", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} <= environment.keys()
        assert environment.items() >= (SILENT | CALLS | CHECKS | UNTOLD).items()
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert "shared" in mounts and mounts <= {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


STUBS = {
    "scontrol": "printf 'n1\\nn2\\nn3\\n'",
    "srun": 'echo "$@" >> "$SAID"\n'
    'case "$*" in *"address show dev eth7") echo "$SHOWN" ;; *--block*) exec sleep 60 ;; '
    '*health-check*) grep -q -e --head "$SAID" ;; '
    '*"cluster wait"*) until [ "$(grep -c -e --block "$SAID")" = 3 ]; do sleep 0.01; done ;; esac',
}


def submitted(folder: Path, **stubs: str) -> subprocess.CompletedProcess[str]:
    """The Slurm script run for real, with a scontrol and an srun that only write what they are
    asked to `said` in the folder; the home is `home` there."""
    for name, body in (STUBS | stubs).items():
        stub = folder / name
        stub.write_text(f"#!/bin/sh\n{body}\n")
        stub.chmod(0o755)
    return subprocess.run(
        ["bash", str(EXAMPLES / "slurm.sbatch"), "train", "identity.tiny"],
        env={
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "SAID": str(folder / "said"),
            "MIEN": "/mien",
            "MIEN_HOME": str(folder / "home"),
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_CPUS_PER_TASK": "8",
            "INTERFACE": "eth7",
            "SHOWN": "3: eth7    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth7",
            "SLURM_SUBMIT_DIR": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_the_slurm_script_starts_the_head_first_and_leaves_nothing(tmp_path: Path) -> None:
    done = submitted(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "said").read_text().splitlines()
    exports = [
        line.removeprefix("export ").split()
        for line in (EXAMPLES / "slurm.sbatch").read_text().splitlines()
        if line.startswith("export ")
    ]
    assert said(SILENT | CALLS | CHECKS | UNTOLD) <= {one for line in exports for one in line}
    head, *workers = (line for line in lines if "ray start" in line)
    assert "--head" in head and "--nodelist n1 " in head
    for host, line in zip(("n2", "n3"), sorted(workers), strict=True):
        assert f"--nodelist {host} " in line and "--head" not in line
    assert lines[-1].endswith("mien --address 10.0.0.1:20077 train identity.tiny")
    assert any(line.endswith("cluster wait --nodes 3") for line in lines)
    assert list((tmp_path / "home").iterdir()) == [], "the token is gone with the job"


def test_the_slurm_script_ends_with_a_head_that_does_not_start(tmp_path: Path) -> None:
    """Else it would wait for it until the time of the job is over."""
    never = STUBS["srun"].replace('grep -q -e --head "$SAID"', "exit 1")
    done = submitted(tmp_path, srun=never.replace("*--block*) exec sleep 60", "*--head*) exit 1"))
    assert done.returncode == 1
    assert done.stderr == (
        "the head of Ray on n1 has ended before it answered; what it said stands above\n"
    )
    asked = (tmp_path / "said").read_text().splitlines()
    assert sum("ray start" in line for line in asked) == 1, "no worker begins"
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("path", [EXAMPLES / "aws_gpu.yaml", ROOT / "ray_cluster.yaml"])
def test_ray_is_started_without_servers_of_metrics_and_waits_for_nobody_long(path: Path) -> None:
    """Servers of metrics ask no token."""
    values = yaml.safe_load(path.read_text())
    head, worker = (values[f"{who}_start_ray_commands"][-1].split() for who in ("head", "worker"))
    assert said(SILENT | CALLS | CHECKS | UNTOLD) <= set(head)
    assert said(CALLS | UNTOLD) | {"RAY_enable_metrics_collection=0"} <= set(worker)
