"""How a command is told of the lake that it reads: a folder, or an address."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _place(path: Path | None) -> Path | None:
    from data_service.lakes.elsewhere import lake_place  # imports pyarrow

    return lake_place(path)


_LAKE: Any = typer.Option(
    "--lake", metavar="DIR|ADDRESS", help="Made by `mien ingest`.", callback=_place
)
LakeArgument = Annotated[
    Path, typer.Argument(metavar="LAKE", help="Its folder, or an address.", callback=_place)
]
LakeOption = Annotated[Path, _LAKE]
LakeToBegin = Annotated[Path | None, _LAKE]
