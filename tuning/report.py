"""A comparison, shown: as a table in the terminal, as JSON, CSV and LaTeX."""

from __future__ import annotations

import csv as csv_format
import io
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainer.scorecard.statistics import Difference, Interval

if TYPE_CHECKING:
    from tuning.rows import Block, Comparison, Pair, Row

SHOWN_ROWS = 25
NOTHING = "–"
SEEN = "validation_macro_recall"
SEEN_BOUNDS = (f"{SEEN}_low", f"{SEEN}_high")
LATEX_SIGNS = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def table(comparison: Comparison) -> Group:
    """One table per block, then the notes."""
    parts: list[RenderableType] = []
    for block in comparison.blocks:
        parts += [_block_table(comparison, block), Text()]
    parts.append(Text(f"Intervals: {comparison.estimator}.", style="dim"))
    parts += [Text(f"Note: {note}.", style="yellow") for note in comparison.notes]
    return Group(*parts)


def _block_table(comparison: Comparison, block: Block) -> Table:
    shown = Table(
        title=f"{comparison.experiment}: {block.title}",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    tested = bool(block.tested)
    validated = any(row.validation_macro_recall is not None for row in block.rows)
    judged = block.rows[0].verdict == "best"
    measured = any(row.figures for row in block.rows)
    shown.add_column("#", justify="right")
    shown.add_column("system", overflow="fold", min_width=16)
    shown.add_column("runs", justify="right")
    if tested:
        shown.add_column("macro recall %", justify="right", min_width=9)
        shown.add_column("accuracy %", justify="right", no_wrap=True)
    elif validated:
        shown.add_column("validation %", justify="right")
    if judged:
        shown.add_column("behind best", justify="right", no_wrap=True)
        shown.add_column("verdict", no_wrap=True)
    if measured:
        shown.add_column("other figures")
    shown.add_column("images/s", justify="right", no_wrap=True)
    for row in block.rows[:SHOWN_ROWS]:
        cells = [_rank(row), _name(row), str(len(row.run_ids))]
        if tested:
            cells += [_interval(row.macro_recall), _interval(row.accuracy)]
        elif validated:
            cells.append(_validation(row))
        if judged:
            cells += [_difference(row.behind), _verdict(row)]
        if measured:
            cells.append("\n".join(_figures(row)))
        cells.append(NOTHING if row.images_per_second is None else f"{row.images_per_second:.0f}")
        shown.add_row(*cells, style=_style(row))
    if len(block.rows) > SHOWN_ROWS:
        shown.caption = f"{len(block.rows) - SHOWN_ROWS} more rows in the CSV and JSON"
    return shown


def _style(row: Row) -> str | None:
    return "dim" if row.ending else "bold" if row.verdict == "best" else None


def _rank(row: Row) -> str:
    return NOTHING if row.rank is None else str(row.rank)


def _name(row: Row) -> str:
    changes = [
        f"{key.removeprefix('system.')}={_brief(value)}" for key, value in row.settings.items()
    ]
    reached = [f"after {row.reached}"] if row.reached else []
    return "\n ".join([row.name, *reached, *changes])


def _figures(row: Row, digits: int = 3) -> list[str]:
    """Each other figure with its interval, the one that orders the row first."""
    told = []
    for name in sorted(row.figures, key=lambda name: name not in row.objectives[:1]):
        values = [f"{value:.{digits}g}" for value in row.figure_bounds.get(name, ())]
        interval = f" [{', '.join(values)}]" if values else ""
        told.append(f"{name} {row.figures[name]:.{digits}g}{interval}")
    return told


def _brief(text: str) -> str:
    """A number's first four digits; any other text as it is."""
    return f"{float(text):.4g}" if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", text) else text


def _validation(row: Row) -> str:
    if row.validation_macro_recall is None:
        return NOTHING
    bounds = row.figure_bounds.get(SEEN)
    reach = f"\n{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}" if bounds else ""
    return f"{100 * row.validation_macro_recall:.1f}{reach}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return NOTHING
    return f"{100 * interval.value:.1f}\n{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return NOTHING
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.value:.1f}\n{low:.1f} to {high:.1f}"


def _verdict(row: Row) -> str:
    if row.p is None:
        return row.verdict
    return f"{row.verdict}\np {'<0.001' if row.p < 0.001 else f'{row.p:.3f}'}"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Plain JSON values, nothing left out."""
    return asdict(comparison)


def csv(comparison: Comparison) -> str:
    """One line per row; the figures are shares between 0 and 1."""
    lines = [
        {"block": number, **_csv_row(block, row)}
        for number, block in enumerate(comparison.blocks, 1)
        for row in block.rows
    ]
    text = io.StringIO()
    writer = csv_format.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_row(block: Block, row: Row) -> dict[str, Any]:
    return {
        "lake_hash": block.lake_hash,
        "tested": block.tested,
        "evidence": row.evidence,
        "leaks": row.leaks,
        "ranked_by": next(iter(block.objectives), ""),
        "rank": row.rank,
        "system": row.system,
        "kind": row.kind,
        "study": row.study,
        "trial": row.trial,
        "ending": row.ending,
        "reached": row.reached,
        "settings": "; ".join(f"{key}={value}" for key, value in row.settings.items()),
        "runs": len(row.run_ids),
        "folds": " ".join(row.folds),
        "seeds": " ".join(row.seeds),
        "num_faces": row.num_faces,
        "num_subjects": row.num_subjects,
        **_bounds("accuracy", row.accuracy),
        **_bounds("macro_recall", row.macro_recall),
        "validation_macro_recall": row.validation_macro_recall,
        **dict(zip(SEEN_BOUNDS, row.figure_bounds.get(SEEN, (None, None)), strict=True)),
        "images_per_second": row.images_per_second,
        "figures": "; ".join(_figures(row, digits=6)),
        **_bounds("behind", row.behind),
        "p_corrected": row.p,
        "verdict": row.verdict,
    }


def _bounds(name: str, figure: Interval | Difference | None) -> dict[str, float | None]:
    value, low, high = (figure.value, figure.low, figure.high) if figure else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def latex(comparison: Comparison) -> str:
    """One `tabular` per block of tested rows, for booktabs; ties with the best are marked.

    ValueError where there is none. Rows without test predictions have the figure that ranks them.
    """
    parts = [_latex_block(block) for block in comparison.blocks if _is_tested(block)]
    if not parts:
        raise ValueError(
            f"no row of '{comparison.experiment}' was tested; LaTeX has nothing to say"
        )
    return "\n".join([*parts, f"% Intervals: {comparison.estimator}.", ""])


def _is_tested(block: Block) -> bool:
    return block.rows[0].evidence != "validation" and bool(block.objectives)


def _latex_block(block: Block) -> str:
    figures = (r"macro recall [\%]", r"accuracy [\%]", "behind the best")
    heads = figures if block.tested else (_escaped(block.objectives[0]),)
    lines = [
        f"% {block.title}",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"\toprule",
        " & ".join(("system", *heads)) + r" \\",
        r"\midrule",
    ]
    for row in block.rows:
        name = _escaped(", ".join(_name(row).split("\n ")))
        cells = _latex_test(row) if block.tested else [_latex_figure(row, block.objectives[0])]
        lines.append(" & ".join((name, *cells)) + r" \\")
    if block.audit:
        told = rf"leaks between training and test: {_escaped(block.audit)}"
        width = r"p{0.9\linewidth}"
        lines += [r"\midrule", rf"\multicolumn{{{len(heads) + 1}}}{{{width}}}{{{told}}} \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_test(row: Row) -> list[str]:
    gap = "--" if row.behind is None else f"${100 * row.behind.value:.1f}$"
    mark = " (tie)" if row.verdict == "tie" else ""
    return [_latex_interval(row.macro_recall), _latex_interval(row.accuracy), gap + mark]


def _latex_figure(row: Row, figure: str) -> str:
    value = row.value_of(figure)
    if value is None:
        return "--"
    bounds = row.figure_bounds.get(figure)
    return f"${value:.3g}$" + (f" [${bounds[0]:.3g}$, ${bounds[1]:.3g}$]" if bounds else "")


def _latex_interval(interval: Interval | None) -> str:
    if interval is None:
        return "--"
    low, high = 100 * interval.low, 100 * interval.high
    return f"${100 * interval.value:.1f}$ [${low:.1f}$, ${high:.1f}$]"


def _escaped(text: str) -> str:
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)


def pairs(comparison: Comparison) -> list[RenderableType]:
    """For each block, every two of its best rows: the difference, and its corrected p."""
    return [_pairs_table(block) for block in comparison.blocks if block.pairs]


def _pairs_table(block: Block) -> Table:
    shown = Table(
        title=f"{block.title}: row minus column, points (p after Holm for all pairs)",
        box=SIMPLE_HEAD,
    )
    shown.add_column("row", overflow="fold", min_width=16)
    places = block.paired
    for place in places:
        shown.add_column(str(place + 1), justify="right", no_wrap=True)
    known = {(pair.first, pair.second): pair for pair in block.pairs}
    for first in places:
        cells = [_pair_cell(known.get((first, second))) for second in places]
        shown.add_row(f"{first + 1}  {_name(block.rows[first])}", *cells)
    return shown


def _pair_cell(pair: Pair | None) -> str:
    if pair is None:
        return ""
    mark = "" if pair.told_apart else " tie"
    return f"{100 * pair.difference.value:+.1f}{mark}\n{pair.p:.3f}"


def write(text: str, path: Path) -> None:
    """The text as a file, in place only when whole. ValueError where its folder does not exist."""
    if not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: {path.parent} is no folder")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
