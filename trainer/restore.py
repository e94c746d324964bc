"""Trained systems from disk: to use them, or to start another run from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo
from trainer import catalog, job
from trainer.checkpoint import initialise, load_weights
from trainer.config import RunConfig, without_copied
from trainer.job import Job
from trainer.system import System, SystemSpec

VERBS = {
    "intensity": "scale intensity",
    "transfer": "transfer expressions",
    "attributes": "tell attributes",
    "identify": "identify subjects",
    "synthesise": "make faces",
    "recognise": "recognise expressions",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoadedSystem:
    """A trained system in eval mode, with the chosen (averaged) weights, and its settings."""

    system: System
    run: RunConfig
    info: DatasetInfo
    spec: SystemSpec
    directory: Path

    def require_channels(self, lake: Lake) -> None:
        """ValueError where the lake's faces, as the run sees them, have not the channels of those
        that it was trained on."""
        channels = 1 if self.run.data.grey else lake.manifest.channels
        if channels != self.info.channels:
            raise ValueError(
                f"run {self.directory.name} was trained on faces of {self.info.channels} channels, "
                f"those of {lake.path} have {channels}"
            )


def load_system(run: str | Path, device: str = "cpu") -> LoadedSystem:
    """The trained system of a run given by id or directory.

    Raises ValueError when there is no such run, or it has not finished.
    """
    directory = job.find(str(run))
    weights = directory / "weights.safetensors"
    if not weights.is_file():
        raise ValueError(f"run {directory.name} has no finished weights; is it still training?")
    settings = job.load(directory).run
    info = job.read_info(directory)
    spec = catalog.spec_of(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        system = spec.build(without_copied(settings.system), info)
    tensors = load_weights(weights)
    for player in system.players():
        prefix = f"player/{player.name}/"
        state = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        player.module.load_state_dict(state)
        player.module.to(device).eval().requires_grad_(False)
    own = {k.removeprefix("system/"): v for k, v in tensors.items() if k.startswith("system/")}
    system.load_state_dict(own)
    for network in system.frozen().values():
        network.to(device).eval().requires_grad_(False)
    return LoadedSystem(system=system, run=settings, info=info, spec=spec, directory=directory)


def load_capable(run: str | Path, capability: str, device: str = "cpu") -> LoadedSystem:
    """As `load_system`; ValueError, with the systems that can, for one without the capability."""
    loaded = load_system(run, device)
    if capability not in loaded.spec.capabilities:
        can = [name for name in catalog.names() if capability in catalog.load(name).capabilities]
        raise ValueError(
            f"run {loaded.directory.name} is a {loaded.run.system_name}.{loaded.run.recipe}, which "
            f"does not {VERBS.get(capability, capability)}; systems that do: {', '.join(can)}"
        )
    return loaded


def start_from(own: Job, system: System) -> None:
    """Copy the weights that lie at `own.init` into the players of the same name.

    Parameters whose shape differs (another number of classes) keep their fresh values. ValueError
    when nothing fits at all.
    """
    if own.init is None:
        return
    tensors = load_weights(own.init)
    copied = 0
    for player in system.players():
        prefix = f"player/{player.name}/"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        copied += initialise(player.module, state, own.init_only)
    if not copied:
        raise ValueError(
            f"nothing in {own.init} fits {own.run.system_name} under the pattern '{own.init_only}'"
        )
