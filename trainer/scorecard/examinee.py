"""A trained system and the faces that it is examined on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from data_service.lakes.lake import Lake
from data_service.schema import DatasetInfo, FaceBatch
from trainer.config import RunConfig
from trainer.feed import WITHOUT_CLASSES
from trainer.scorecard.evaluate import evaluation_batch, labels_of, subjects_of
from trainer.system import System, SystemSpec

BATCH_IMAGES = 64


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Examinee:
    """`rows_N` of `lake` are under test; `train_rows_N` of `home_lake` is what the system and its
    judges are trained on. The two lakes may be one."""

    system: System
    spec: SystemSpec
    run: RunConfig
    info: DatasetInfo
    lake: Lake
    rows_N: np.ndarray
    home_lake: Lake
    train_rows_N: np.ndarray
    device: torch.device | str = "cpu"

    def can(self, capability: str) -> bool:
        """Whether the system, in the variant of the run, has the capability."""
        return capability in self.spec.capabilities

    def spread(self, count: int) -> np.ndarray:
        """At most `count` of the rows under test, evenly spread."""
        index = np.linspace(0, len(self.rows_N) - 1, min(count, len(self.rows_N))).astype(int)
        return self.rows_N[index]

    def subjects(self, rows_N: np.ndarray) -> np.ndarray:
        """The subject of each row."""
        return subjects_of(self.lake, rows_N)

    def labels(self, rows_N: np.ndarray) -> np.ndarray:
        """The class index of each row; -1 for a run without classes, and, where the system needs
        none, for a row whose class the run does not have."""
        unasked = self.spec.capabilities <= WITHOUT_CLASSES
        return labels_of(self.lake, rows_N, self.info, strangers=unasked)

    def batches(self, rows_N: np.ndarray) -> Iterator[FaceBatch]:
        """The rows as they are tested, on the device."""
        labels_N = self.labels(rows_N)
        for start in range(0, len(rows_N), BATCH_IMAGES):
            part = slice(start, start + BATCH_IMAGES)
            batch = evaluation_batch(self.lake, rows_N[part], labels_N[part], self.run, self.info)
            yield batch.to(self.device)
