"""VGG-f, the fast network of Chatfield, Simonyan, Vedaldi, Zisserman (BMVC 2014), CNN-F there.

Shapes: B faces, C channels, H height, W width, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.vggface import pixels_from_faces

CHANNELS = (64, 256, 256, 256, 256)
"""Channels of the five convolutions, at width 1."""

EMBEDDING_FEATURES = 4096


class VggF(nn.Module):
    """Five convolutions and two dense layers; published for 224 px.

    For faces below 128 px (ours) the first convolution is 5x5 at stride 2 in place of 11x11 at
    stride 4. Local response normalisation is left out, as in later conversions.
    """

    def __init__(self, *, image_size: int = 224, width: float = 1.0) -> None:
        super().__init__()
        channels = [max(4, round(width * count)) for count in CHANNELS]
        kernel, stride = (11, 4) if image_size >= 128 else (5, 2)
        self.conv1 = nn.Conv2d(3, channels[0], kernel, stride, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 5, padding=2)
        self.conv3 = nn.Conv2d(channels[1], channels[2], 3, padding=1)
        self.conv4 = nn.Conv2d(channels[2], channels[3], 3, padding=1)
        self.conv5 = nn.Conv2d(channels[3], channels[4], 3, padding=1)
        side = -(-image_size // stride)
        for _ in range(3):
            side = (side + 1) // 2
        self.num_features = max(16, round(EMBEDDING_FEATURES * width))
        self.fc6 = nn.Linear(channels[4] * side * side, self.num_features)
        self.fc7 = nn.Linear(self.num_features, self.num_features)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The descriptor [B, D]: fc7 after its ReLU."""
        x = pixels_from_faces(faces_BCHW)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = torch.relu(layer(x))
            if layer in (self.conv1, self.conv2, self.conv5):
                x = functional.max_pool2d(x, 2, ceil_mode=True)
        hidden_BD = torch.relu(self.fc6(x.flatten(1)))
        return torch.relu(self.fc7(hidden_BD))
