"""How long a user waits: from the command to the first optimiser step, and for a bare script.

Method. `mien train RECIPE --lake LAKE` runs as a process of its own: with one worker, and on a
running Ray with two; a round that does not count fills the caches. The clock starts before the
process does and stops when the run's status tells of its first step. The peers are scripts without
mien, timed alike: torch alone, a small plain network and one step of Adam on a batch from the
lake's Parquet file; and the same in Ray Train's TorchTrainer with two workers. They neither check,
plan, track nor save.

    python -m benchmarks.startup LAKE [--rounds 3] [--out benchmarks/results/startup.json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.photos import environment

RECIPE, IMAGES = "fersnet.small", 64
_AT_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Off, a loopback address is taken as it is, and not for the machine's own."""
_BARE = """
import glob, sys, time
def step(config):
    import numpy as np, pyarrow.parquet as pq, torch
    from torch import nn
    torch.set_num_threads(1)
    table = pq.read_table(sorted(glob.glob(config["lake"] + "/*.parquet"))[0]).slice(0, 16)
    faces = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).astype(np.float32)
    x = torch.from_numpy(faces).view(len(table), 1, config["side"], -1) / 127.5 - 1
    layers, before = [], x.shape[1]
    for width in (32, 64, 128):
        layers += [nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 5))
    if config["workers"] > 1:
        import ray.train.torch
        net = ray.train.torch.prepare_model(net)
    optimizer = torch.optim.Adam(net.parameters())
    net(x).square().mean().backward()
    optimizer.step()
    open(config["told"], "a").write(f"{time.time()}\\n")
lake, told, workers, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = {"lake": lake, "told": told, "workers": workers, "side": side}
if workers == 1:
    step(config)
else:
    import ray
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer
    ray.init(address="auto", log_to_driver=False)
    scaling = ScalingConfig(num_workers=workers)
    TorchTrainer(step, train_loop_config=config, scaling_config=scaling).fit()
"""


def mien_seconds(lake: Path, workers: int, folder: Path, address: str | None) -> float:
    """From the command to the first step that the run's status tells of."""
    home = Path(tempfile.mkdtemp(dir=folder))
    place = ["--address", address] if address else []
    command = [sys.executable, "-m", "mien", *place, "train", RECIPE, "--lake", str(lake)]
    command += ["--fold", "1/5", "--workers", str(workers), "--set", f"system.images={IMAGES}"]
    started = time.time()
    process = subprocess.Popen(
        command,
        env=os.environ | {"MIEN_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = None
    while process.poll() is None and found is None:
        time.sleep(0.02)
        found = _first_step(home)
    seconds = time.time() - started
    if process.wait() or (found or _first_step(home)) is None:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds


def _first_step(home: Path) -> float | None:
    for status in home.glob("runs/*/status.json"):
        with contextlib.suppress(ValueError, OSError):
            return json.loads(status.read_text()).get("first_step_seconds")
    return None


def bare_seconds(lake: Path, workers: int, folder: Path, address: str | None) -> float:
    """From the command to the first step of the slowest worker of a script without mien."""
    side = json.loads((lake / "manifest.json").read_text())["image_size"]
    script, told = folder / "bare.py", Path(tempfile.mkdtemp(dir=folder)) / "told"
    script.write_text(_BARE)
    started = time.time()
    subprocess.run(
        [sys.executable, str(script), str(lake), str(told), str(workers), str(side)],
        env=os.environ | ({"RAY_ADDRESS": address, _AT_LOOPBACK: "0"} if address else {}),
        timeout=120,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return max(map(float, told.read_text().split())) - started


@contextlib.contextmanager
def running_ray() -> Iterator[str]:
    """A Ray of its own, as a user would have running."""
    from cluster.session import connect

    with connect():
        import ray

        yield ray.get_runtime_context().gcs_address


def measured(lake: Path, workers: int, rounds: int, folder: Path, address: str | None) -> dict:
    """Both by turns; the first round warms the caches."""
    found: dict[str, list[float]] = {"mien": [], "bare": []}
    for _ in range(rounds + 1):
        found["mien"].append(mien_seconds(lake, workers, folder, address))
        found["bare"].append(bare_seconds(lake, workers, folder, address))
    card = {}
    for name, values in found.items():
        card[f"{name}_seconds"] = [round(value, 2) for value in values[1:]]
        card[f"{name}_median"] = round(statistics.median(values[1:]), 2)
        card[f"{name}_first"] = round(values[0], 2)
    return card


def main() -> None:
    """Measure both ways and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/startup.json"))
    arguments = parser.parse_args()
    lake = arguments.lake.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {"in_process": measured(lake, 1, arguments.rounds, folder, None)}
        print(results, flush=True)
        with running_ray() as address:
            results["two_workers"] = measured(lake, 2, arguments.rounds, folder, address)
    results |= {"asked": {"in_process": 15, "two_workers": 40}, "environment": environment()}
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
