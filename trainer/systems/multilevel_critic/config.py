"""The settings of the multi-level critic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import knob, weight
from trainer.nets.blocks import Norm
from trainer.schedules import Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Widths and depths; no source tells the paper's, so these are ours."""

    channels: tuple[int, ...] = knob(
        (64, 128, 256, 512), doc="of the generator: first layer, then one halving each, and back"
    )
    num_blocks: int = knob(2, bounds=(0, 9), doc="basic blocks at the lowest side")
    norm: Norm = knob("batch", doc="of the generator")
    output: Literal["image", "residual"] = knob(
        "image", doc="every level draws the face, or what changes in it"
    )
    critic_channels: tuple[int, ...] = knob((64, 128, 256, 512), doc="final D: one halving each")
    level_channels: tuple[int, ...] = knob((64, 128, 256), doc="D_P, and f of D_V, likewise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The paper's terms all have weight 1; those of D_P and D_V are sums over the levels."""

    adversarial: Schedule = weight(1.0, paper="L_G_D", doc="the final image fools D")
    photo: Schedule = weight(1.0, paper="L_G_P", doc="the levels' images fool D_P")
    variation: Schedule = weight(1.0, paper="L_G_V", doc="the levels' changes fool D_V")
    pixel: Schedule = weight(0.0, doc="L1 to the target face, mean of all sizes (ours)")
    smooth: Schedule = weight(
        0.0, doc="squared error of means of 3 x 3 pixels of the final image (ours)"
    )
    critic: Schedule = weight(1.0, paper="L_D", doc="D tells target faces from made ones")
    critic_photo: Schedule = weight(1.0, paper="L_P", doc="D_P likewise, on the levels")
    critic_variation: Schedule = weight(1.0, paper="L_V", doc="D_V tells true changes from made")


@dataclass(frozen=True, kw_only=True, slots=True)
class MultilevelCriticConfig:
    """All settings of the system.

    `levels` are the sides of the images that critics watch over, each the image's side halved some
    times; empty leaves the final discriminator alone, and the weights of D_P and D_V must be 0.
    With `pose` the head's target yaw is a second condition, and the lake must know `yaw`.
    """

    levels: tuple[int, ...] = knob(
        (32, 64), search=True, doc="sides of the critics' images, in pixels"
    )
    network: NetworkConfig = field(default_factory=NetworkConfig)
    weights: Weights = field(default_factory=Weights)
    conditional: bool = knob(True, doc="all critics see the target, not the generator alone")
    pose: bool = knob(False, doc="the target's yaw is a second target")
    yaw_scale: float = knob(45.0, bounds=(1.0, 180.0), doc="degrees of yaw that count as 1")
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic_every: int = knob(1, bounds=(1, 64), doc="the critics learn in every n-th step")
    ema_halflife_images: int | None = knob(
        None, bounds=(0, 1e9), doc="averaged weights for editing (ours)"
    )
    balance: bool = knob(False, doc="draw every class equally often")
    images: int = knob(100_000, bounds=(1, 1e9), doc="of the only stage")
