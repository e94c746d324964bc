"""Plain stacks of convolutions.

Shapes: B faces, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainer.nets.dropout import Noise, dropout
from trainer.nets.norm import BatchNorm2d


class Convolutions(nn.Module):
    """Groups of 3x3 convolutions with ReLU, each halved by 2x2 maxima, a part hidden after each."""

    def __init__(
        self,
        num_in: int,
        groups: tuple[tuple[int, int], ...],
        *,
        batch_norm: bool,
        hidden: float,
        halve_last: bool = True,
    ) -> None:
        super().__init__()
        self.groups, self.hidden = nn.ModuleList(), hidden
        for index, (num_out, count) in enumerate(groups):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers.append(nn.Conv2d(num_in, num_out, 3, padding=1, bias=not batch_norm))
                layers += [BatchNorm2d(num_out)] if batch_norm else []
                layers.append(nn.ReLU())
                num_in = num_out
            if halve_last or index < len(groups) - 1:
                layers.append(nn.MaxPool2d(2))
            self.groups.append(nn.Sequential(*layers))

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[B, C, H, W] to [B, C', H / 2^groups, W / 2^groups]."""
        for index, group in enumerate(self.groups):
            x = dropout(group(x), self.hidden, f"group {index}", noise)
        return x
