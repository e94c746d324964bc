"""A plain convolutional trunk, for recipes that two CPU cores can train.

Shapes: B faces, C channels, H height, W width, D features, h and w sides of the last map.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.norm import BatchNorm2d


class PlainTrunk(nn.Module):
    """For each width a 3x3 convolution, batch norm and ReLU, and for each but the last a halving.

    Halving is by maxima of 2 x 2; an odd side is rounded up.
    """

    def __init__(self, num_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths:
            raise ValueError("a trunk needs at least one width")
        self.num_features = widths[-1]
        self.layers = nn.ModuleList()
        for num_out in widths:
            convolution = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
            self.layers.append(nn.Sequential(convolution, BatchNorm2d(num_out), nn.ReLU()))
            num_in = num_out

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The last map [B, D, h, w]."""
        return self.maps(faces_BCHW)[-1]

    def maps(self, faces_BCHW: Tensor) -> list[Tensor]:
        """The map of every layer, fine to coarse."""
        x, found = faces_BCHW, []
        for index, layer in enumerate(self.layers):
            x = layer(functional.max_pool2d(x, 2, ceil_mode=True) if index else x)
            found.append(x)
        return found
