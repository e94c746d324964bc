"""What moves a player: plain torch on one worker, DeepSpeed on several. One engine per player.

Systems call their modules directly; an engine only takes the loss backward and steps. ZeRO 0, 1
and 2 keep whole parameters on every rank, so that the module is always the truth; ZeRO 3 does not,
and is not offered, because averaging and full-state checkpoints are built on whole parameters.

A parameter without a gradient is skipped by torch, whose Adam then counts fewer steps for it;
DeepSpeed gives it a gradient of zero and counts the step. What goes on from a checkpoint keeps the
steps that were counted for each parameter, under either.
"""

from __future__ import annotations

import fnmatch
import functools
import os
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainer.system import OptimizerConfig, Player
from trainer.world import World

MOMENTS: dict[str, tuple[str, ...]] = {
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
}
MOMENTS["sgd"] = ("momentum_buffer",)
_BUCKET_ELEMENTS = 5_000_000


class PlayerEngine(Protocol):
    """Moves the trainable parameters of one player during one stage."""

    parameters: dict[str, nn.Parameter]

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of `loss`; averaged over the ranks before `step` uses them."""
        ...

    def step(self, fraction: float) -> None:
        """Move, with the learning rate at `fraction` of the stage, and forget the gradients."""
        ...

    def moments(self) -> dict[str, Tensor]:
        """A copy of the optimiser's state by `parameter/moment`, whole, on CPU. A collective."""
        ...

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Restore what `moments` gave, on any number of ranks. A collective."""
        ...

    def close(self) -> None:
        """Let go of the module, so that the next stage can build its own engine."""
        ...


def trained_parameters(player: Player, pattern: str) -> dict[str, nn.Parameter]:
    """The player's parameters whose name matches, in order; ValueError when none does."""
    named = {
        name: parameter
        for name, parameter in player.module.named_parameters()
        if fnmatch.fnmatch(name, pattern)
    }
    if not named:
        raise ValueError(f"player '{player.name}' has no parameter that matches '{pattern}'")
    return named


def _groups(
    parameters: Mapping[str, nn.Parameter], config: OptimizerConfig, steps: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Parameter groups, one per learning-rate scale and number of `steps` counted."""
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scales = (s for p, s in config.lr_scale.items() if fnmatch.fnmatch(name, p))
        key = next(scales, 1.0), steps.get(name, 0.0)
        members.setdefault(key, []).append(parameter)
    rate = config.rate(0.0)
    return [
        {"params": group, "lr": rate * scale, "lr_scale": scale}
        for (scale, _), group in members.items()
    ]


def _optimizer(
    parameters: Mapping[str, nn.Parameter], config: OptimizerConfig, steps: Mapping[str, float]
) -> torch.optim.Optimizer:
    groups = _groups(parameters, config, steps)
    if config.name == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def _set_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, fraction: float) -> None:
    rate = config.rate(fraction)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def _read_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], kind: str
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        for key in (*MOMENTS[kind], "step"):
            if state.get(key) is not None:
                value = torch.as_tensor(state[key], dtype=torch.float32)
                found[f"{name}/{key}"] = value.detach().to("cpu", copy=True)
    return found


class TorchEngine:
    """One worker, plain torch."""

    def __init__(self, player: Player, pattern: str) -> None:
        self.config = player.optimizer
        self.parameters = trained_parameters(player, pattern)
        self.optimizer = _optimizer(self.parameters, self.config, {})

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, fraction: float) -> None:
        _set_rate(self.optimizer, self.config, fraction)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def moments(self) -> dict[str, Tensor]:
        return _read_moments(self.optimizer, self.parameters, self.config.name)

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            keys = [
                key for key in (*MOMENTS[self.config.name], "step") if f"{name}/{key}" in moments
            ]
            # in the parameter's own memory layout, which fused kernels take for granted
            self.optimizer.state[parameter] = {
                key: moments[f"{name}/{key}"].to(parameter.device, copy=True)
                if key == "step"
                else torch.empty_like(parameter).copy_(moments[f"{name}/{key}"])
                for key in keys
            }

    def close(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)


@functools.cache
def _deepspeed(device: str) -> Any:
    """DeepSpeed for this process' kind of device, cpu or cuda, without the CPU collective that it
    would compile at start-up and not use."""
    os.environ["DS_ACCELERATOR"] = device
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # type: ignore[attr-defined]
    return deepspeed


class DeepSpeedEngine:
    """Several workers, or an explicit ZeRO stage on one."""

    def __init__(self, player: Player, pattern: str, world: World, zero: int, batch: int) -> None:
        self.config, self.zero, self.module = player.optimizer, zero, player.module
        self.settings = self._settings(world, batch)
        self.device = world.device.type
        self.parameters = trained_parameters(player, pattern)
        for parameter in player.module.parameters():
            parameter.requires_grad_(False)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self._build({})

    def _build(self, steps: Mapping[str, float]) -> None:
        """The optimiser; ZeRO counts one number of steps for each group of parameters."""
        self.inner = _optimizer(self.parameters, self.config, steps)
        self.engine, self.optimizer, *_ = _deepspeed(self.device).initialize(
            model=self.module,
            optimizer=self.inner,
            model_parameters=list(self.parameters.values()),
            config=self.settings,
            dist_init_required=False,
        )

    def _settings(self, world: World, batch: int) -> dict[str, Any]:
        return {
            "train_batch_size": batch,
            "train_micro_batch_size_per_gpu": batch // world.size,
            "gradient_clipping": self.config.clip_norm,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {
                "stage": self.zero,
                "reduce_bucket_size": _BUCKET_ELEMENTS,
                "allgather_bucket_size": _BUCKET_ELEMENTS,
            },
        }

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss)

    def step(self, fraction: float) -> None:
        _set_rate(self.optimizer, self.config, fraction)
        self.engine.step()

    def moments(self) -> dict[str, Tensor]:
        if self.zero == 0:
            return _read_moments(self.inner, self.parameters, self.config.name)
        from deepspeed.utils import safe_get_full_optimizer_state

        if not any(self.inner.state.values()):
            return {}
        self._link_moments()
        found: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            for key in MOMENTS[self.config.name]:
                value = safe_get_full_optimizer_state(parameter, key)
                if value is not None:
                    found[f"{name}/{key}"] = value.detach().cpu().view(parameter.shape)
        for name, state in self._states().items():
            if "step" in state:
                found[f"{name}/step"] = state["step"].detach().cpu().clone()
        return found

    def _states(self) -> dict[str, dict[str, Any]]:
        """The inner optimiser's state by the parameter it belongs to; of ZeRO 1 and 2 that of the
        parameter's whole group."""
        if self.zero == 0:
            return {name: self.inner.state[one] for name, one in self.parameters.items()}
        groups = zip(
            self.optimizer.bit16_groups, self.optimizer.single_partition_of_fp32_groups, strict=True
        )
        of_id = {id(one): self.inner.state[flat] for group, flat in groups for one in group}
        return {name: of_id[id(one)] for name, one in self.parameters.items()}

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        if not moments:
            return
        steps = {name: float(moments.get(f"{name}/step", 0.0)) for name in self.parameters}
        if self.zero > 0 and len(set(steps.values())) > 1:
            self.close()
            self._build(steps)
        self._make_state()
        for name, state in self._states().items():
            if "step" in state:
                state["step"].fill_(steps[name])
        for name in self.parameters:
            for key in MOMENTS[self.config.name]:
                if f"{name}/{key}" in moments:
                    self._put(name, key, moments[f"{name}/{key}"])

    def _put(self, name: str, key: str, value: Tensor) -> None:
        parameter = self.parameters[name]
        if self.zero == 0:
            self.inner.state[parameter][key].copy_(value)
            return
        from deepspeed.utils import safe_set_full_optimizer_state

        safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)

    def _link_moments(self) -> None:
        """Let every group's parameters find their moments.

        DeepSpeed 0.19.8 links them when the first parameter group has stepped, and so leaves the
        further groups without.
        """
        self.optimizer._hp_optimizer_states_linked = False
        self.optimizer._lazy_init_hp_params_optimizer_state()

    def _make_state(self) -> None:
        """The state of no step at all, by one at rate zero: ZeRO makes it at the first step."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        total = sum((parameter * 0.0).sum() for parameter in self.parameters.values())
        self.engine.backward(total)
        self.engine.step()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for state in self.inner.state.values():
            for value in state.values():
                value.zero_()
        if self.zero > 0:
            self._link_moments()

    def close(self) -> None:
        self.engine.destroy()
