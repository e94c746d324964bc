"""Maps that lie channels last: all features of a place together, as convolutions take them fastest.

On a CPU a heavy kernel keeps the default order. In every pass it would be brought from one order
into the other, and so would its gradient; its maps, smaller in small batches, are brought to it
instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

HEAVY = 2**21
"""Weights of a kernel. FERSNet in the authors' form has ten of as many, its critic one."""


def lay_channels_last(network: nn.Module) -> None:
    """Bring the network's tensors into that order, in place, but for heavy kernels on a CPU."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and _is_heavy(layer.weight):
            layer.weight.data = layer.weight.data.contiguous()
            layer.register_forward_pre_hook(_in_default_order)


def _is_heavy(weight: Tensor) -> bool:
    """On a CPU; a kernel of one place lies in both orders at once."""
    places = weight[0, 0].numel()
    return weight.device.type == "cpu" and places > 1 and weight.numel() >= HEAVY


def _in_default_order(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].contiguous(), *given[1:])
