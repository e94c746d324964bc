"""Noise that is a pure function of a sample's slot in the plan, so that no generator need be saved.

Counter-based: every number is a hash (splitmix64) of (slot key, label, position).
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of int64; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64, on int64 with wrap-around."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def label_key(label: str) -> int:
    """A signed 64-bit number for a name."""
    return int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), signed=True)


def keyed_uniform(key_B: Tensor, label: str, numel: int) -> Tensor:
    """Float32 [B, numel], uniform in [0, 1), 24 random bits each; a function of (key, label)."""
    base_B1 = _mix(key_B.view(-1, 1) ^ label_key(label))
    counter_N = torch.arange(1, numel + 1, device=key_B.device, dtype=torch.int64) * _GOLDEN
    bits_BN = _shift_right(_mix(base_B1 + counter_N), 40)
    return bits_BN.to(torch.float32) * (1.0 / (1 << 24))


def keyed_noise(
    key_B: Tensor, label: str, shape: tuple[int, ...], *, uniform: bool = False
) -> Tensor:
    """Noise of `shape` (B first): standard normal (Box and Muller), or uniform in [-1, 1)."""
    batch, numel = shape[0], math.prod(shape[1:])
    if batch != key_B.shape[0]:
        raise ValueError(f"noise of shape {shape} asked for a batch of {key_B.shape[0]} samples")
    if uniform:
        return (keyed_uniform(key_B, label, numel) * 2 - 1).view(shape)
    half = (numel + 1) // 2
    uniform_BN = keyed_uniform(key_B, label, 2 * half)
    radius_BN = torch.sqrt(-2 * torch.log1p(-uniform_BN[:, :half]))
    angle_BN = 2 * math.pi * uniform_BN[:, half:]
    normal_BN = torch.cat([radius_BN * torch.cos(angle_BN), radius_BN * torch.sin(angle_BN)], dim=1)
    return normal_BN[:, :numel].reshape(shape)
