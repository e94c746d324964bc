"""What a check of `mien doctor` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing looked at. `warn` would hinder something, `fail` would stop it."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    mend: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
