"""VGG-Face (Parkhi, Vedaldi, Zisserman, BMVC 2015), the network of ExprGAN's identity loss.

Parameters are named as in the published conversions (`conv1_1` ... `conv5_3`, `fc6`, `fc7`).
Shapes: B faces, C channels, H height, W width, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

GROUPS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of 3x3 convolutions of the five groups, at width 1."""

EMBEDDING_FEATURES = 4096
MEAN_RGB = (129.1863, 104.7624, 93.5940)
"""What was subtracted from pixels in [0, 255]."""

_CLASSIFIER = "fc8."


class VggFace(nn.Module):
    """Thirteen convolutions and two dense layers; published with `image_size` 224, `width` 1."""

    def __init__(self, *, image_size: int = 224, width: float = 1.0) -> None:
        super().__init__()
        num_in = 3
        for group, (channels, count) in enumerate(GROUPS, start=1):
            num_out = max(4, round(channels * width))
            for layer in range(1, count + 1):
                self.add_module(f"conv{group}_{layer}", nn.Conv2d(num_in, num_out, 3, padding=1))
                num_in = num_out
        num_features = max(16, round(EMBEDDING_FEATURES * width))
        self.fc6 = nn.Linear(num_in * _pooled_side(image_size) ** 2, num_features)
        self.fc7 = nn.Linear(num_features, num_features)
        self.num_features = num_features
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def features(self, faces_BCHW: Tensor) -> list[Tensor]:
        """conv1_2, conv2_2, conv3_2, conv4_2, conv5_2 before their ReLU, as in ExprGAN."""
        return self._maps(faces_BCHW)[0]

    def pooled(self, faces_BCHW: Tensor) -> Tensor:
        """pool5: the last pooled map, deepest before the dense layers."""
        return self._maps(faces_BCHW)[1]

    def embed(self, faces_BCHW: Tensor) -> Tensor:
        """The descriptor [B, 4096 x width]: fc7 after its ReLU."""
        hidden_BD = functional.relu(self.fc6(self.pooled(faces_BCHW).flatten(1)))
        return functional.relu(self.fc7(hidden_BD))

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """The same as `embed`."""
        return self.embed(faces_BCHW)

    def _maps(self, faces_BCHW: Tensor) -> tuple[list[Tensor], Tensor]:
        x, maps = pixels_from_faces(faces_BCHW), []
        for group, (_, count) in enumerate(GROUPS, start=1):
            for layer in range(1, count + 1):
                x = self.get_submodule(f"conv{group}_{layer}")(x)
                if layer == 2:
                    maps.append(x)
                x = functional.relu(x)
            x = functional.max_pool2d(x, 2, ceil_mode=True)
        return maps, x


def pixels_from_faces(faces_BCHW: Tensor) -> Tensor:
    """Faces in [-1, 1], grey or RGB, as RGB in [0, 255] without the published mean."""
    mean_C = faces_BCHW.new_tensor(MEAN_RGB).view(1, 3, 1, 1)
    return faces_BCHW.expand(-1, 3, -1, -1) * 127.5 + (127.5 - mean_C)


def names_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under this module's names, without the classifier over their subjects."""
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in plain.items() if not name.startswith(_CLASSIFIER)}


def _pooled_side(image_size: int) -> int:
    for _ in GROUPS:
        image_size = (image_size + 1) // 2
    return image_size
