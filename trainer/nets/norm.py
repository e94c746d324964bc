"""Batch normalisation whose statistics cover the batches of all ranks, on CPU and GPU alike.

torch's SyncBatchNorm does not run on CPU tensors, and plain BatchNorm would make the result depend
on the number of workers. Shapes: B samples, C channels, and any further dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor as _is_batched  # there is no public one
from torch.autograd.function import once_differentiable


class _Global(torch.autograd.Function):
    """Batch norm over all ranks: y, and the global mean and biased variance.

    One all-reduce each way, for with small networks the ranks spend their time in these. Means and
    variances of equal parts are put together in float64 (Chan, Golub and LeVeque, 1979).
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        var_C, mean_C = torch.var_mean(x.float(), [0, *range(2, x.dim())], correction=0)
        mean_C, var_C = mean_C.double(), var_C.double()
        moments_2C = torch.stack([mean_C, var_C + mean_C.square()])
        dist.all_reduce(moments_2C)
        mean_C, square_C = moments_2C / _num_ranks()
        var_C = (square_C - mean_C.square()).clamp(min=0).float()
        mean_C = mean_C.float()
        y = nn.functional.batch_norm(x, mean_C, var_C, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean_C, torch.rsqrt(var_C + eps))
        ctx.mark_non_differentiable(mean_C, var_C)
        return y, mean_C, var_C

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean_C, scale_C = ctx.saved_tensors
        dims, shape = [0, *range(2, x.dim())], (1, -1, *([1] * (x.dim() - 2)))
        centred, dy = x.float() - mean_C.view(shape), dy.float()
        sums_2C = torch.stack([dy.sum(dims), (dy * centred).sum(dims)])
        bias_gradient, weight_gradient = sums_2C[0], sums_2C[1] * scale_C
        totals_2C = sums_2C.double()
        dist.all_reduce(totals_2C)
        count = x.numel() // x.shape[1] * _num_ranks()
        dy_C, slope_C = (totals_2C / count).float()
        outer_C = scale_C if weight is None else scale_C * weight.float()
        slope_C = slope_C * scale_C.square()
        dx = (dy - dy_C.view(shape) - centred * slope_C.view(shape)) * outer_C.view(shape)
        gradients = (None, None) if weight is None else (weight_gradient, bias_gradient)
        return dx.to(x.dtype), *gradients, None


def _num_ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class BatchNorm(nn.Module):
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
            return self._kernel(x, self.running_mean, self.running_var, training=False)
        if _num_ranks() == 1:
            return self._alone(x)
        y, mean_C, var_C = _Global.apply(x, self.weight, self.bias, self.eps)
        if self.updates_statistics:
            count = x.numel() // x.shape[1] * _num_ranks()
            with torch.no_grad():
                self.running_mean.lerp_(mean_C, self.momentum)
                self.running_var.lerp_(var_C * (count / max(count - 1, 1)), self.momentum)
        return y

    def _alone(self, x: Tensor) -> Tensor:
        """torch's fused kernel, for one rank; without updates it gets throw-away statistics."""
        mean_C, var_C = self.running_mean, self.running_var
        if not self.updates_statistics:
            mean_C, var_C = mean_C.clone(), var_C.clone()
        return self._kernel(x, mean_C, var_C, training=True)

    def _kernel(self, x: Tensor, mean_C: Tensor, var_C: Tensor, *, training: bool) -> Tensor:
        """torch's, which under vmap takes no mixture of types."""
        whole = x.to(mean_C.dtype) if is_lane(x) else x
        y = nn.functional.batch_norm(
            whole, mean_C, var_C, self.weight, self.bias, training, self.momentum, self.eps
        )
        return y.to(x.dtype)


class BatchNorm1d(BatchNorm):
    """Batch normalisation of [B, C] or [B, C, L]."""

    dimensions = (2, 3)


class BatchNorm2d(BatchNorm):
    """Batch normalisation of [B, C, H, W]."""

    dimensions = (4,)


class _ChannelsLast(torch.autograd.Function):
    """Instance norm of maps that lie channels last, on a CPU: batch norm's kernel face by face.

    Group norm with one channel a group is the same, but its gradients take several times as long.
    """

    @staticmethod
    def forward(ctx, x: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        y = torch.empty_like(x)
        mean_BC, scale_BC = x.new_empty(2, *x.shape[:2]).unbind()
        for face in range(len(x)):
            one = slice(face, face + 1)
            out = (y[one], mean_BC[face], scale_BC[face])
            torch.native_batch_norm(x[one], None, None, None, None, True, 0.0, eps, out=out)
        ctx.save_for_backward(x, mean_BC, scale_BC)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        x, mean_BC, scale_BC = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        parts = [
            torch.ops.aten.native_batch_norm_backward(
                *(dy_1, x_1, None, None, None, mean_C, scale_C, True, ctx.eps, [True, False, False])
            )[0]
            for dy_1, x_1, mean_C, scale_C in zip(
                dy.split(1), x.split(1), mean_BC, scale_BC, strict=True
            )
        ]
        return torch.cat(parts), None


class InstanceNorm2d(nn.Module):
    """Normalises each channel of each sample over its places; no parameters, no statistics kept.

    torch's own brings maps that lie channels last into the other order; this one leaves them.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps

    def forward(self, x: Tensor) -> Tensor:
        """The normalised `x`, [B, C, H, W]."""
        if is_lane(x) or x.is_contiguous():
            return nn.functional.instance_norm(x, eps=self.eps)
        if not x.is_contiguous(memory_format=torch.channels_last):
            return nn.functional.instance_norm(x, eps=self.eps)
        if x.requires_grad and x.device.type == "cpu" and x.dtype == torch.float32:
            return _ChannelsLast.apply(x, self.eps)
        return nn.functional.group_norm(x, self.num_features, eps=self.eps)


def is_lane(x: Tensor) -> bool:
    """Whether `x` stands for the lanes of `torch.func.vmap`, which do not tell how they lie."""
    return _is_batched(x)


def batch_norms(module: nn.Module) -> tuple[BatchNorm, ...]:
    """The batch norms below `module`."""
    return tuple(layer for layer in module.modules() if isinstance(layer, BatchNorm))


def set_statistics_updates(layers: Iterable[BatchNorm], on: bool) -> None:
    """Whether the batch norms move their running statistics."""
    for layer in layers:
        layer.updates_statistics = on
