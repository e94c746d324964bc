"""Trained systems from disk: to use them, or to start another run from them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo
from trainer import catalog, job
from trainer.checkpoint import initialise, load_weights
from trainer.config import RunConfig, without_copied
from trainer.job import Job
from trainer.system import System, SystemSpec

LOG = logging.getLogger(__name__)
MOST_BEGINNINGS = 8
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
    """A trained system in eval mode, with the chosen (averaged) weights, and its settings.

    `device` is where its networks lie, and what they are asked must lie.
    """

    system: System
    run: RunConfig
    info: DatasetInfo
    spec: SystemSpec
    directory: Path
    device: str = "cpu"

    def require(self, capability: str) -> None:
        """ValueError, with the systems that can, where this one in its variant cannot."""
        if capability not in self.spec.capabilities:
            can = [one for one in catalog.names() if capability in catalog.load(one).capabilities]
            raise ValueError(
                f"run {self.directory.name} is a {self.run.system_name}.{self.run.recipe}, which "
                f"does not {VERBS[capability]}; systems that do: {', '.join(can)}"
            )

    def require_channels(self, lake: Lake) -> None:
        """ValueError where the lake's faces, as the run sees them, have not the channels of those
        that it was trained on."""
        channels = 1 if self.run.data.grey else lake.manifest.channels
        if channels != self.info.channels:
            raise ValueError(
                f"run {self.directory.name} was trained on faces of {self.info.channels} channels, "
                f"those of {lake.path} have {channels}"
            )


def best_device() -> str:
    """A GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


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
    return LoadedSystem(
        system=system, run=settings, info=info, spec=spec, directory=directory, device=device
    )


def load_capable(run: str | Path, capability: str, device: str = "cpu") -> LoadedSystem:
    """As `load_system`; ValueError, with the systems that can, for one without the capability."""
    loaded = load_system(run, device)
    loaded.require(capability)
    return loaded


def start_from(own: Job, system: System) -> None:
    """Copy the weights that lie at `own.init` into the players, by name; see `renamed`.

    Parameters whose shape differs (another number of classes) keep their fresh values. ValueError
    when nothing fits at all, or nothing of what a map names.
    """
    if own.init is None:
        return
    tensors = renamed(load_weights(own.init), own.init_map, _parameters(system))
    copied = 0
    for player in system.players():
        prefix = f"player/{player.name}/"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        copied += initialise(player.module, state, own.init_only)
    if not copied:
        raise ValueError(
            f"nothing in {own.init} fits {own.run.system_name} under the pattern '{own.init_only}'"
        )


def check_map(init: str | None, init_map: Sequence[str]) -> None:
    """ValueError where there are no weights whose names could be mapped, or a map is no OLD=NEW."""
    if init_map and init is None:
        raise ValueError("--init-map needs weights to start from: --init RUN, or --init FILE")
    for text in init_map:
        _old_and_new(text)


def renamed(
    tensors: Mapping[str, Tensor], init_map: Sequence[str], here: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors by their names, and by those that `init_map` makes of them, which count more.

    A map is OLD=NEW: what begins with OLD there begins with NEW `here`, among the parameters that
    are to be filled. OLD may be empty, and may stand in several maps. ValueError where a map takes
    nothing, or a parameter would come from two tensors.
    """
    sources: dict[str, str] = {}
    for text in init_map:
        for name, source in _mapped(text, tensors, here).items():
            if sources.setdefault(name, source) != source:
                raise ValueError(
                    f"--init-map {text}: {name} would come from {source} and {sources[name]}"
                )
    return {**tensors, **{name: tensors[source] for name, source in sources.items()}}


def _mapped(text: str, tensors: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> dict[str, str]:
    """The parameters here that one map names, and the tensor of each."""
    old, new = _old_and_new(text)
    named = {new + name.removeprefix(old): name for name in tensors if name.startswith(old)}
    if not named:
        raise ValueError(
            f"--init-map {text}: no weight's name begins with '{old}'; names there begin with "
            f"{_beginnings(tensors)}"
        )
    known = {name: source for name, source in named.items() if name in here}
    if not known:
        raise ValueError(
            f"--init-map {text}: there is no parameter {min(named)}; names here begin with "
            f"{_beginnings(here)}"
        )
    there = {name: tensors[source] for name, source in known.items()}
    _check_shapes(f"--init-map {text}", len(named), there, here)
    return known


def _check_shapes(
    who: str, count: int, there: Mapping[str, Tensor], here: Mapping[str, Tensor]
) -> None:
    """ValueError where no tensor has its parameter's shape; the log tells of some of `count`."""
    misfits = sorted(name for name, value in there.items() if value.shape != here[name].shape)
    fitting = len(there) - len(misfits)
    told = f"{who}: {fitting} of {count} tensors fit"
    if misfits:
        theirs, ours = (tuple(side[misfits[0]].shape) for side in (there, here))
        told += f"; {misfits[0]} is {theirs} there and {ours} here"
    if not fitting:
        raise ValueError(told)
    if fitting < count:
        LOG.warning(told)


def _old_and_new(text: str) -> tuple[str, str]:
    old, _, new = (part.strip() for part in text.partition("="))
    if not new:
        raise ValueError(f"--init-map {text}: it must look like OLD=NEW, two beginnings of names")
    return old, new


def _parameters(system: System) -> dict[str, Tensor]:
    """What the players' modules keep, by the names that a file of weights has for it."""
    return {
        f"player/{player.name}/{key}": value
        for player in system.players()
        for key, value in player.module.state_dict().items()
    }


def _beginnings(names: Iterable[str]) -> str:
    """The first of the names up to their first dot."""
    found = sorted({name[: name.find(".") + 1] or name for name in names})
    return ", ".join([*found[:MOST_BEGINNINGS], *(["..."] if found[MOST_BEGINNINGS:] else [])])
