"""FERSNet in the authors' form as one would write it from the release: plain eager PyTorch.

Everything is torch's own: its batch and instance norms, its Adam with default arguments, tensors in
their default layout. As in the release the faces for the critic's turns are made once, the critic
takes three turns, then network and head take one. The frozen identity network asks for no gradients
of its weights. Shapes: B faces, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nets.lightcnn import LightCNN9

CLASSES = 7


def double_conv(num_in: int, num_out: int) -> nn.Sequential:
    """3x3 convolution, instance norm, leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 3, padding=1), nn.InstanceNorm2d(num_out), nn.LeakyReLU(0.2)
    )


class Block(nn.Module):
    """Two normalised 3x3 convolutions with a shortcut."""

    def __init__(self, num_in: int, num_out: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.norm1, self.norm2 = norm(num_out), norm(num_out)
        self.shortcut = nn.Conv2d(num_in, num_out, 1, bias=False) if num_in != num_out else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, num_in, H, W] to [B, num_out, H, W]."""
        out = functional.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return functional.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class Unit(nn.Module):
    """ConvFLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w_r = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.w_z = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.u = nn.Conv2d(channels, channels, 1, bias=False)
        self.w = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """What the task of x takes over from y."""
        both = torch.cat([x, y], dim=1)
        r = torch.sigmoid(self.w_r(both))
        z = torch.sigmoid(self.w_z(both))
        candidate = torch.tanh(self.u(x) + self.w(r * y))
        return z * x + (1 - z) * candidate


class Transform(nn.Module):
    """Adaptive instance norm under the target, after noise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(1))
        self.style = nn.Linear(CLASSES, 2 * channels)
        self.norm = nn.InstanceNorm2d(channels)
        nn.init.xavier_normal_(self.style.weight, gain=0.1)
        nn.init.zeros_(self.style.bias)

    def forward(self, x: Tensor, target_BK: Tensor) -> Tensor:
        """The same shape as x."""
        noise = torch.randn(len(x), 1, *x.shape[2:])
        gamma, beta = self.style(target_BK)[:, :, None, None].chunk(2, dim=1)
        return gamma * self.norm(x + self.strength * noise) + beta


class Up(nn.Module):
    """Twice the side, the conditioned skip beside it, two convolutions."""

    def __init__(self, num_in: int, num_up: int, skip: int, inner: int, num_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(num_in, num_up, 4, stride=2, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(num_up)
        self.transform = Transform(skip)
        self.mix = nn.Sequential(double_conv(num_up + skip, inner), double_conv(inner, num_out))

    def forward(self, x: Tensor, skip: Tensor, target_BK: Tensor) -> Tensor:
        """[B, num_out, 2 H, 2 W]."""
        risen = functional.relu(self.norm(self.up(x)))
        return self.mix(torch.cat([risen, self.transform(skip, target_BK)], dim=1))


class Net(nn.Module):
    """Recognition and synthesis: 54.0 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        widths = [(64, 128), (128, 256), (256, 512)]
        self.conv_x = nn.ModuleList(Block(*pair, nn.BatchNorm2d) for pair in widths)
        self.conv_y = nn.ModuleList(Block(*pair, nn.InstanceNorm2d) for pair in widths)
        self.unit_x = nn.ModuleList(Unit(width) for _, width in widths)
        self.unit_y = nn.ModuleList(Unit(width) for _, width in widths)
        self.joint = Block(1024, 1024, nn.BatchNorm2d)
        self.head = nn.Sequential(nn.Conv2d(512, 512, 3, padding=1), nn.BatchNorm2d(512), nn.ReLU())
        self.classifier = nn.Linear(512, CLASSES)
        self.transform = Transform(512)
        self.ups = nn.ModuleList(
            [
                Up(512, 512, 512, 512, 512),
                Up(512, 256, 256, 512, 256),
                Up(256, 128, 128, 256, 128),
                Up(128, 64, 64, 128, 128),
            ]
        )
        self.last = nn.Sequential(
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1, bias=False),
            nn.InstanceNorm2d(64),
            nn.LeakyReLU(0.2),
            double_conv(64, 64),
            double_conv(64, 64),
            nn.Conv2d(64, 3, 3, padding=1),
        )

    def forward(self, faces_BCHW: Tensor, target_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and edited faces."""
        x = y = self.pool(self.stem(faces_BCHW))
        skips = [x]
        for conv_x, conv_y, unit_x, unit_y in zip(
            self.conv_x, self.conv_y, self.unit_x, self.unit_y, strict=True
        ):
            x, y = self.pool(conv_x(x)), self.pool(conv_y(y))
            x, y = unit_x(x, y), unit_y(y, x)
            skips.append(y)
        x, y = self.pool(self.joint(torch.cat([x, y], dim=1))).chunk(2, dim=1)
        logits_BK = self.classifier(self.head(x).mean(dim=(2, 3)))
        out = self.transform(y, target_BK)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            out = up(out, skip, target_BK)
        return logits_BK, self.last(out)


class Critic(nn.Module):
    """Conditional patch critic: 2.8 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3 + CLASSES
        for after in (64, 128, 256, 512):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
            layers += [nn.InstanceNorm2d(after)] if after > 64 else []
            layers.append(nn.LeakyReLU(0.2))
            before = after
        layers += [nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(before, 1, 4, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, faces_BCHW: Tensor, target_BK: Tensor) -> Tensor:
        """A score for every patch."""
        maps = target_BK[:, :, None, None].expand(-1, -1, *faces_BCHW.shape[2:])
        return self.layers(torch.cat([faces_BCHW, maps], dim=1))


def grey(faces_BCHW: Tensor) -> Tensor:
    """Luma."""
    red, green, blue = faces_BCHW.unbind(1)
    return (0.2989 * red + 0.5870 * green + 0.1140 * blue).unsqueeze(1)


class Peer:
    """The training of the release, a step at a time."""

    def __init__(self) -> None:
        self.net, self.critic = Net(), Critic()
        self.phi = LightCNN9().eval().requires_grad_(False)
        settings = {"lr": 1e-4, "betas": (0.5, 0.999), "weight_decay": 5e-4}
        self.net_optimizer = torch.optim.Adam(self.net.parameters(), **settings)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), **settings)

    def step(self, face: Tensor, label: Tensor, partner: Tensor, wish: Tensor) -> float:
        """One batch; faces in [0, 1], labels as class indices."""
        label_BK = functional.one_hot(label, CLASSES).float()
        wish_BK = functional.one_hot(wish, CLASSES).float()
        self.net.eval()
        with torch.no_grad():
            _, fake = self.net(face, wish_BK)
        for _ in range(3):
            self.critic_optimizer.zero_grad()
            real_score, fake_score = self.critic(partner, wish_BK), self.critic(fake, wish_BK)
            loss = 0.5 * ((real_score - 1).square().mean() + fake_score.square().mean())
            loss.backward()
            self.critic_optimizer.step()
        self.net.train()
        self.net_optimizer.zero_grad()
        logits, made = self.net(face, wish_BK)
        _, back = self.net(made, label_BK)
        loss = (
            functional.cross_entropy(logits, label)
            + functional.l1_loss(grey(made), grey(partner))
            + 0.05 * functional.mse_loss(self.features(made), self.features(partner))
            + 0.3 * (self.critic(made, wish_BK) - 1).square().mean()
            + 0.5 * functional.mse_loss(back, face)
        )
        loss.backward()
        self.net_optimizer.step()
        return loss.item()

    def features(self, faces_BCHW: Tensor) -> Tensor:
        """LightCNN-9's last pooled map, of faces in [0, 1]."""
        return self.phi.pooled(2 * faces_BCHW - 1)
