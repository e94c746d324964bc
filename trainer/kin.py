"""Which trainings may take their steps together, as lanes of one pass (`tuning.fused`).

They run the same code on tensors of the same shapes. They may differ in what a lane has of its own:
weights of terms, as long as the same terms are ever wanted, optimisers, and settings that enter the
networks as numbers in a tensor.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from data_service.schema import DatasetInfo
from trainer.config import PER_LANE, WEIGHS, RunConfig, plain
from trainer.schedules import ever_positive
from trainer.system import OptimizerConfig, SystemSpec

_OWN = ("recipe", "checkpoint", "evaluation", "logging")
"""Sections of a run that its steps know nothing of."""


def kin_of(run: RunConfig, spec: SystemSpec, info: DatasetInfo) -> str:
    """Equal for trainings that may go together; empty where the system cannot."""
    if spec.not_in_one_pass:
        return ""
    sections = {
        item.name: _shared(getattr(run, item.name))
        for item in dataclasses.fields(run)
        if item.name not in _OWN
    }
    text = json.dumps([sections, plain(info)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _shared(value: Any) -> Any:
    """A section without what each lane has of its own."""
    if not dataclasses.is_dataclass(value):
        return plain(value)
    found: dict[str, Any] = {}
    for item in dataclasses.fields(value):
        inner = getattr(value, item.name)
        if item.metadata.get(WEIGHS):
            found[item.name] = ever_positive(inner)
        elif not item.metadata.get(PER_LANE) and not isinstance(inner, OptimizerConfig):
            found[item.name] = _shared(inner)
    return found
