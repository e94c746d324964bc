"""Batch normalisation whose statistics cover the batches of all ranks, on CPU and GPU alike.

torch's SyncBatchNorm does not run on CPU tensors, and plain BatchNorm would make the result depend
on the number of workers. Shapes: B samples, C channels, and any further dimensions.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverRanks(torch.autograd.Function):
    """All-reduce by sum whose gradient is summed over the ranks likewise."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:  # type: ignore[override]
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _num_ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _BatchNorm(nn.Module):
    """Normalises each channel by the mean and variance of the global batch.

    In training mode the batch's own statistics serve; the running ones are updated only while
    `updates_statistics` is set, which the loop clears for players that are not on turn.
    """

    dimensions: tuple[int, ...]

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.updates_statistics = True

    def forward(self, x: Tensor) -> Tensor:
        """The normalised `x`, of the same shape [B, C, ...]."""
        if x.dim() not in self.dimensions:
            raise ValueError(
                f"{type(self).__name__} takes {self.dimensions} dimensions, not {x.dim()}"
            )
        if not self.training:
            return self._normalise(x, self.running_mean, self.running_var)
        if _num_ranks() == 1:
            return self._alone(x)
        mean_C, var_C, count = self._statistics(x)
        if self.updates_statistics:
            with torch.no_grad():
                self._follow(mean_C, var_C * (count / max(count - 1, 1)))
        return self._normalise(x, mean_C, var_C)

    def _alone(self, x: Tensor) -> Tensor:
        """torch's fused kernel, for one rank; without updates it gets throw-away statistics."""
        mean_C, var_C = self.running_mean, self.running_var
        if not self.updates_statistics:
            mean_C, var_C = mean_C.clone(), var_C.clone()
        return nn.functional.batch_norm(
            x, mean_C, var_C, self.weight, self.bias, True, self.momentum, self.eps
        )

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Mean and biased variance per channel over all ranks, in float32, and the count."""
        dims = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1] * _num_ranks()
        mean_C = _SumOverRanks.apply(x.float().sum(dims)) / count
        centred = x.float() - mean_C.view(self._shape(x))
        var_C = _SumOverRanks.apply(centred.square().sum(dims)) / count
        return mean_C, var_C, count

    def _follow(self, mean_C: Tensor, var_C: Tensor) -> None:
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(var_C, self.momentum)

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        return (1, self.num_features, *([1] * (x.dim() - 2)))

    def _normalise(self, x: Tensor, mean_C: Tensor, var_C: Tensor) -> Tensor:
        scale_C = torch.rsqrt(var_C + self.eps)
        if self.weight is not None:
            scale_C = scale_C * self.weight
        shift_C = -mean_C * scale_C
        if self.bias is not None:
            shift_C = shift_C + self.bias
        shape = self._shape(x)
        return x * scale_C.view(shape).to(x.dtype) + shift_C.view(shape).to(x.dtype)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of [B, C] or [B, C, L]."""

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of [B, C, H, W]."""

    dimensions = (4,)


def set_statistics_updates(module: nn.Module, on: bool) -> None:
    """Whether the batch norms below `module` move their running statistics."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.updates_statistics = on
