"""The option that names the lake of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _place(path: Path | None) -> Path | None:
    from data_service.elsewhere import lake_place  # imports pyarrow

    return lake_place(path)


_LAKE: Any = typer.Option(
    "--lake", metavar="DIR|ADDRESS", help="Made by `mien ingest`.", callback=_place
)
LakeOption = Annotated[Path, _LAKE]
LakeToBegin = Annotated[Path | None, _LAKE]
