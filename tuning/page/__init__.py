"""A comparison as one HTML page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.scorecard.statistics import Difference, Interval
from tuning.details import Details
from tuning.objectives import is_less_better
from tuning.rows import listed

if TYPE_CHECKING:
    from tuning.rows import Comparison, Row

FOLDER = Path(__file__).parent
SCRIPTS = ("state", "leaderboard", "charts", "raster", "parallel", "panels", "start")


def page(
    comparison: Comparison, details: Mapping[tuple[str, ...], Details], *, saved: str = ""
) -> str:
    """The page's text. `details` by a row's run ids; `saved` says what pruning saved."""
    rows = [
        _row(place, block_number, row, details.get(row.run_ids, Details()))
        for place, (block_number, row) in enumerate(_numbered(comparison))
    ]
    data = {
        "title": f"{comparison.experiment}: comparison",
        "about": _about(comparison, len(rows)),
        "notes": [f"{note[0].upper()}{note[1:]}." for note in comparison.notes],
        "blocks": [
            {"name": block.title, "objectives": block.objectives, "lake": block.lake_hash[:12]}
            for block in comparison.blocks
        ],
        "rows": rows,
        "pairs": _pairs(comparison),
        "figures": [
            {"name": name, "more": not is_less_better(name)}
            for name in sorted({name for row in rows for name in row["figures"]})
        ],
        "cost": {"saved": saved},
    }
    text = (FOLDER / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": f"{comparison.experiment}: comparison".replace("&", "&amp;").replace("<", "&lt;"),
        "style": (FOLDER / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((FOLDER / f"{name}.js").read_text("utf-8") for name in SCRIPTS),
        "data": embedded(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text)


def embedded(data: Any) -> str:
    """JSON that may stand inside a script element whatever its strings hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _numbered(comparison: Comparison) -> list[tuple[int, Row]]:
    return [(number, row) for number, block in enumerate(comparison.blocks) for row in block.rows]


def _about(comparison: Comparison, num_rows: int) -> str:
    num_runs = sum(len(row.run_ids) for block in comparison.blocks for row in block.rows)
    return (
        f"{num_rows:,} rows of {num_runs:,} runs, read {time.strftime('%Y-%m-%d %H:%M')}. "
        f"Intervals: {comparison.estimator}."
    )


def _row(index: int, block: int, row: Row, details: Details) -> dict[str, Any]:
    return {
        "index": index,
        "rank": row.rank,
        "block": block,
        "name": row.name,
        "system": row.system,
        "settings": dict(row.settings),
        "runs": len(row.run_ids),
        "folds": listed(row.folds),
        "seeds": listed(row.seeds),
        "macro_recall": _bounds(row.macro_recall),
        "accuracy": _bounds(row.accuracy),
        "validation": _rounded(row.validation_macro_recall),
        "speed": _rounded(row.images_per_second),
        "seconds": _rounded(row.seconds),
        "figures": {name: _rounded(value) for name, value in row.figures.items()},
        "bounds": {name: list(map(_rounded, ends)) for name, ends in row.figure_bounds.items()},
        "behind": _bounds(row.behind),
        "p": _rounded(row.p),
        "verdict": row.verdict,
        "ending": row.ending,
        "reached": row.reached,
        "curves": {
            name: {"x": curve.x, "mean": curve.mean, "low": curve.low, "high": curve.high}
            for name, curve in details.curves.items()
        },
        "confusion": {"classes": details.classes, "counts": details.confusion}
        if details.confusion
        else None,
        "picture": details.picture and f"data:image/jpeg;base64,{details.picture}",
        "pictured": details.pictured,
    }


def _bounds(figure: Interval | Difference | None) -> list[float | None] | None:
    if figure is None:
        return None
    return [_rounded(figure.value), _rounded(figure.low), _rounded(figure.high)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _pairs(comparison: Comparison) -> list[dict[str, Any]]:
    """For each block with pairs: the rows' places on the page, and a table of their differences."""
    found, before = [], 0
    for number, block in enumerate(comparison.blocks):
        if block.pairs:
            size, at = len(block.paired), {place: i for i, place in enumerate(block.paired)}
            cells: list[list[dict[str, Any] | None]] = [[None] * size for _ in range(size)]
            for pair in block.pairs:
                first, second, gap = at[pair.first], at[pair.second], pair.difference
                about = {"p": pair.p, "apart": pair.told_apart}
                ends = {"low": gap.low, "high": gap.high}
                turned = {"low": -gap.high, "high": -gap.low}
                cells[first][second] = {"value": gap.value, **ends, **about}
                cells[second][first] = {"value": -gap.value, **turned, **about}
            rows = [before + place for place in block.paired]
            found.append({"block": number, "rows": rows, "cells": cells})
        before += len(block.rows)
    return found
