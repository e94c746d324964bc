"""How else one feeds faces to a network: what the stream is measured beside.

All deliver batches of faces cut out at random, mirrored at random and, where asked, lit and covered
at random, as one writes that for a DataLoader: face by face, in its workers. `jpeg` decodes files;
`webdataset` (PyPI; not among the project's dependencies) decodes the same files from tar shards, in
the order of the shards with a buffer of 1,000; `mapped` reads a memory-mapped file.

Shapes: B faces of a batch, N faces, H height, W width, S side of the crop, C channels.
"""

from __future__ import annotations

import tarfile
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data_service.crops import AugmentConfig

BATCH = 64
SHARDS, BUFFER = 8, 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a network is to see: crops of that side; with light or cover as floats in [-1, 1]."""

    side: int
    augment: AugmentConfig

    @property
    def floats(self) -> bool:
        """Whether more is done to a face than cutting and mirroring."""
        return bool(self.augment.brightness or self.augment.contrast or self.augment.erase)

    def of(self, face_HWC: np.ndarray) -> torch.Tensor:
        """One face, uint8 S x S x C or float32 C x S x S."""
        spread = face_HWC.shape[0] - self.side + 1
        top, left = torch.randint(spread, (2,)).tolist()
        cut = face_HWC[top : top + self.side, left : left + self.side]
        if torch.rand(()) < self.augment.flip:
            cut = cut[:, ::-1]
        face_SSC = torch.from_numpy(np.ascontiguousarray(cut))
        return self._varied(face_SSC) if self.floats else face_SSC

    def _varied(self, face_SSC: torch.Tensor) -> torch.Tensor:
        config = self.augment
        face_CSS = face_SSC.permute(2, 0, 1).float().div_(127.5).sub_(1.0)
        if config.contrast or config.brightness:
            gain, offset = (2 * torch.rand(2) - 1).tolist()
            mean = face_CSS.mean()
            face_CSS.sub_(mean).mul_(1 + gain * config.contrast)
            face_CSS.add_(mean + offset * config.brightness).clamp_(-1, 1)
        if torch.rand(()) < config.erase:
            shares = config.erase_size * (0.5 + 0.5 * torch.rand(2))
            height, width = (shares * self.side).int().tolist()
            top = int(torch.randint(self.side - height + 1, ()))
            left = int(torch.randint(self.side - width + 1, ()))
            face_CSS[:, top : top + height, left : left + width] = 2 * torch.rand(()) - 1
        return face_CSS


class JpegFaces(Dataset):
    """Faces from files."""

    def __init__(self, files: list[str], look: Look) -> None:
        self._files, self._look = files, look

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        face_HWC = cv2.imread(self._files[index], cv2.IMREAD_COLOR_RGB)
        return self._look.of(np.asarray(face_HWC))


class MappedFaces(Dataset):
    """Faces from a mapped file."""

    def __init__(self, faces_NHWC: np.ndarray, look: Look) -> None:
        self._faces_NHWC, self._look = faces_NHWC, look

    def __len__(self) -> int:
        return len(self._faces_NHWC)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._look.of(self._faces_NHWC[index])


def one_thread(_worker: int) -> None:
    """Every worker of a DataLoader computes with one thread."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def loaded(dataset: Dataset, workers: int) -> Generator[int]:
    """Faces of each batch that a DataLoader delivers, epoch after epoch."""
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
        worker_init_fn=one_thread,
    )
    while True:
        yield from map(len, loader)


def write_shards(files: Iterable[str], folder: Path) -> list[str]:
    """The files in tar shards, dealt out in turn."""
    paths = [str(folder / f"{shard:02d}.tar") for shard in range(SHARDS)]
    shards = [tarfile.open(path, "w") for path in paths]  # noqa: SIM115 - closed below
    for index, file in enumerate(files):
        shards[index % SHARDS].add(file, arcname=f"{index:06d}.jpg")
    for shard in shards:
        shard.close()
    return paths


def from_shards(paths: list[str], look: Look, workers: int) -> Generator[int]:
    """Faces of each batch that webdataset delivers."""
    import webdataset  # pyright: ignore[reportMissingImports] - optional

    dataset = (
        webdataset.WebDataset(paths, resampled=True, shardshuffle=False)
        .shuffle(BUFFER)
        .map(partial(_decoded, look=look))
        .batched(BATCH, collation_fn=torch.stack)
    )
    loader = webdataset.WebLoader(
        dataset, batch_size=None, num_workers=workers, worker_init_fn=one_thread
    )
    yield from map(len, loader)


def _decoded(sample: dict[str, Any], look: Look) -> torch.Tensor:
    content = np.frombuffer(sample["jpg"], np.uint8)
    return look.of(np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)))


def copied(faces_NHWC: np.ndarray, look: Look) -> Generator[int]:
    """The limit: bytes of the mapped file, as many as a batch of crops has, in one copy."""
    flat = faces_NHWC.reshape(-1)
    size = BATCH * look.side**2 * faces_NHWC.shape[3]
    room = np.empty(size, np.uint8)
    while True:
        for start in range(0, len(flat) - size + 1, size):
            np.copyto(room, flat[start : start + size])
            yield BATCH


def as_jpeg(faces_NHWC: np.ndarray, folder: Path) -> list[str]:
    """The faces as files of quality 95."""
    files = []
    for row, face_HWC in enumerate(faces_NHWC):
        files.append(str(folder / f"{row:06d}.jpg"))
        cv2.imwrite(
            files[-1],
            cv2.cvtColor(face_HWC, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, 95],
        )
    return files
