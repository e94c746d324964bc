"""Independent judges: small plain CNNs that tell which expression, or which subject, a face shows.

They judge faces which a generator has made. They share neither architecture nor weights with any
system, and say nothing of subjects that they were trained on. A judge is trained once and kept
below MIEN_HOME, named by all that it depends on. Shapes: B faces, N faces, C channels, H height,
W width, K classes, S subjects, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor, nn
from torch.nn import functional

from cluster.home import home
from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo
from trainer.config import RunConfig
from trainer.scorecard.evaluate import faces_of, labels_of
from trainer.tensor_files import write_tensors

JUDGE_IMAGES = 9216
"""Faces that a judge is trained on, each as often as it is drawn."""
_FORMAT_VERSION = 1
_COSINE_SCALE, _COSINE_MARGIN = 20.0, 0.2


class Judge(nn.Module):
    """Four convolutions with batch norm, global average, one linear layer."""

    def __init__(self, channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 3 * width, 4 * width)
        layers: list[nn.Module] = []
        before = channels
        for index, after in enumerate(widths):
            stride = 2 if index == 0 else 1
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(inplace=True), *([nn.MaxPool2d(2)] if index else [])]
            before = after
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(before, num_classes)

    def features(self, faces_BCHW: Tensor) -> Tensor:
        """What the last convolution sees on average, [B, D]: the space of the distances."""
        return self.trunk(faces_BCHW).mean((2, 3))

    def embed(self, faces_BCHW: Tensor) -> Tensor:
        """Unit features [B, D]; their cosine says how alike two faces are."""
        return functional.normalize(self.features(faces_BCHW), dim=1)

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """Logits [B, K] of faces in [-1, 1]."""
        return self.head(self.features(faces_BCHW))

    def cosines(self, faces_BCHW: Tensor) -> Tensor:
        """Cosines [B, S] of the faces with each class' weight."""
        return self.embed(faces_BCHW) @ functional.normalize(self.head.weight, dim=1).T


def expression_judge(
    lake: Lake,
    rows: np.ndarray,
    run: RunConfig,
    info: DatasetInfo,
    *,
    seed: int,
    images: int = JUDGE_IMAGES,
) -> Judge:
    """A recogniser of the run's classes, trained on the faces of `rows` or read from disk."""
    labels_N = labels_of(lake, rows, info)
    return _kept("expression", lake, rows, labels_N, len(info.classes), run, info, seed, images)


def identity_judge(
    lake: Lake,
    rows: np.ndarray,
    run: RunConfig,
    info: DatasetInfo,
    *,
    seed: int,
    images: int = JUDGE_IMAGES,
) -> Judge | None:
    """A network whose features tell the subjects of `rows` apart; None where fewer than two have
    a name. Faces of subjects without one are left out."""
    names = lake.table["subject"].take(rows).to_pylist()
    known_N = np.array([name is not None for name in names], dtype=bool)
    subjects, label_N = np.unique([name for name in names if name is not None], return_inverse=True)
    if len(subjects) < 2:
        return None
    rows = np.asarray(rows)[known_N]
    return _kept("identity", lake, rows, label_N, len(subjects), run, info, seed, images)


def _kept(
    kind: str,
    lake: Lake,
    rows_N: np.ndarray,
    labels_N: np.ndarray,
    num_classes: int,
    run: RunConfig,
    info: DatasetInfo,
    seed: int,
    images: int,
) -> Judge:
    key = {
        "kind": kind,
        "format_version": _FORMAT_VERSION,
        "lake": lake.hash,
        "rows": hashlib.blake2b(np.asarray(rows_N, "<i8").tobytes(), digest_size=12).hexdigest(),
        "classes": list(map(str, info.classes)),
        "image_size": run.data.image_size,
        "channels": info.channels,
        "seed": seed,
        "images": images,
    }
    name = hashlib.blake2b(json.dumps(key).encode(), digest_size=12).hexdigest()
    path = home() / "judges" / f"{kind}-{name}.safetensors"
    if (judge := _read(path, key, info.channels, num_classes)) is not None:
        return judge
    judge = train_judge(
        lambda chosen_B: faces_of(lake, np.asarray(rows_N)[chosen_B], run),
        labels_N,
        num_classes,
        channels=info.channels,
        seed=seed,
        images=images,
        margin=kind == "identity",
    )
    _write(path, key, judge)
    return judge


def _read(path: Path, key: Mapping[str, Any], channels: int, num_classes: int) -> Judge | None:
    """The judge in the file; None where there is none, or none that is whole and of that key."""
    with torch.random.fork_rng(devices=[]):
        judge = Judge(channels, num_classes)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            names = file.keys()
            state = {name: file.get_tensor(name) for name in names}
        judge.load_state_dict(state)
    except (OSError, RuntimeError, safetensors.SafetensorError):
        return None
    if told.get("key") != json.dumps(key) or told.get("hash") != _hash(state):
        return None
    return judge.eval().requires_grad_(False)


def _write(path: Path, key: Mapping[str, Any], judge: Judge) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = judge.state_dict()
    write_tensors(path, state, {"key": json.dumps(key), "hash": _hash(state)})


def _hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()


def train_judge(
    faces: Callable[[np.ndarray], Tensor],
    labels_N: np.ndarray,
    num_classes: int,
    *,
    channels: int,
    seed: int,
    images: int,
    batch: int = 16,
    margin: bool = False,
) -> Judge:
    """A judge trained on N faces in [-1, 1]: classes balanced, shifted and mirrored; seeded.

    `faces` gives those of the numbers [B] below N that it is asked for, [B, C, H, W]: a large lake
    has more of them than fit into memory.
    With `margin` by the cosine margin (Wang et al., CosFace, CVPR 2018), for features that tell
    classes apart that it was not trained on. Batches are small, for a training this short lacks
    steps: on unseen drawn subjects it reads 88 % after 9,216 images, and with batches of 64 and
    group norm no more than chance after 6,144.
    """
    by_class = [np.flatnonzero(labels_N == index) for index in range(num_classes)]
    present = [index for index, members in enumerate(by_class) if len(members)]
    rng = np.random.default_rng([seed, 0x4A554447])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        judge = Judge(channels, num_classes)
        optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=1e-3)
        steps = max(images // batch, 2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
        for _ in range(steps):
            target_B = rng.choice(present, size=batch)
            chosen_B = np.array([rng.choice(by_class[index]) for index in target_B])
            seen_BCHW = _jitter(faces(chosen_B), rng)
            loss = _loss(judge, seen_BCHW, torch.from_numpy(target_B), margin=margin)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval().requires_grad_(False)


def _loss(judge: Judge, faces_BCHW: Tensor, target_B: Tensor, *, margin: bool) -> Tensor:
    if not margin:
        return functional.cross_entropy(judge(faces_BCHW), target_B, label_smoothing=0.05)
    cosine_BS = judge.cosines(faces_BCHW)
    own_BS = functional.one_hot(target_B, cosine_BS.shape[1])
    return functional.cross_entropy(_COSINE_SCALE * (cosine_BS - _COSINE_MARGIN * own_BS), target_B)


def _jitter(faces_BCHW: Tensor, rng: np.random.Generator, shift: int = 3) -> Tensor:
    """Mirror half of the faces, move all by up to `shift` pixels, vary their brightness."""
    batch, _, height, width = faces_BCHW.shape
    mirrored_B = torch.from_numpy(rng.random(batch) < 0.5).view(-1, 1, 1, 1)
    faces_BCHW = torch.where(mirrored_B, faces_BCHW.flip(3), faces_BCHW)
    padded = functional.pad(faces_BCHW, [shift] * 4, mode="replicate")
    top_B, left_B = torch.from_numpy(rng.integers(0, 2 * shift + 1, (2, batch)))
    rows_BH = top_B.view(-1, 1) + torch.arange(height)
    columns_BW = left_B.view(-1, 1) + torch.arange(width)
    index_B = torch.arange(batch).view(-1, 1, 1)
    moved = padded.permute(0, 2, 3, 1)[index_B, rows_BH.unsqueeze(2), columns_BW.unsqueeze(1)]
    gain_B = torch.from_numpy(rng.uniform(0.8, 1.2, batch).astype(np.float32)).view(-1, 1, 1, 1)
    return (moved.permute(0, 3, 1, 2) * gain_B).clamp(-1, 1)
