"""A lake, shown: completeness, faces by class, balance, subjects, alignment, sizes, audit.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data_service import seeds
from data_service.audit import told
from data_service.lakes import page as html
from data_service.lakes.lake import Lake
from data_service.lakes.manifest import write_atomically

SHEET_FACES, SHEET_COLUMNS = 24, 8
SHOWN_PIXELS = 96
PLACED_FACES = 16
MEAN_FACES = 400
EXAMPLES = 12
UNLABELLED = "unlabelled"
PLACED = {
    "detector": "by the detector's points",
    "corpus": "by landmarks that the corpus delivers",
    "none": "as delivered",
    "box": "around the box that the corpus delivers, not aligned",
    "fallback": "by the weaker fallback detector",
    "centre": "centre crop, for want of any point",
}


def write_report(lake: Lake, file: Path) -> None:
    """Writes the page; ValueError where its folder is missing."""
    if not file.parent.is_dir():
        raise ValueError(f"there is no folder {file.parent} for the report")
    write_atomically(file, report(lake).encode())


def report(lake: Lake) -> str:
    """The page (HTML), with all its pictures in it."""
    audit = told(lake)
    parts = [
        *_summary(lake, audit),
        *_completeness(lake),
        *_classes(lake),
        *_subjects(lake, audit),
        *_alignment(lake),
        *_sizes(lake),
        *_quarantine(lake),
        *_audit(lake, audit),
    ]
    return html.page(f"{lake.path.name}: {lake.manifest.corpus}", parts)


def _summary(lake: Lake, audit: dict) -> list[str]:
    manifest = lake.manifest
    colour = "grey" if manifest.channels == 1 else "colour"
    figures = {
        "faces": f"{manifest.count:,}",
        "subjects": f"{manifest.subjects:,}",
        "classes": len(set(manifest.classes) - {UNLABELLED}),
        "refused": f"{sum(manifest.rejected.values()):,}",
        "copies": f"{len(audit['copies']):,}",
    }
    return [
        f"<h1>{html.escape(lake.path.name)}</h1>",
        html.text(f"{manifest.corpus}, {manifest.image_size} px, {colour}; {manifest.hash}", "dim"),
        html.tiles(figures),
    ]


def _completeness(lake: Lake) -> list[str]:
    """What was found beside what a complete copy of the corpus has, where that is known."""
    found, expected = lake.manifest.found, lake.manifest.expected
    if not expected:
        return []
    rows = [
        (name, f"{found.get(name, 0):,}", f"{count:,}", f"{found.get(name, 0) / count:.1%}")
        for name, count in expected.items()
    ]
    short = sum(found.get(name, 0) < count for name, count in expected.items())
    parts = [html.heading("Completeness")]
    if short:
        below = "is below that" if short == 1 else "are below those"
        told = f"{short} of {_counted(len(expected), 'count')} {below} of a complete copy."
        parts.append(html.text(told, "warn"))
    return [*parts, html.table(("count", "found", "a complete copy", "share"), rows)]


def _classes(lake: Lake) -> list[str]:
    rows_of = _rows_by(lake, "expression")
    means = [
        html.picture(_mean(lake, rows), columns=1, words=f"mean face of {name}", caption=name)
        for name, rows in rows_of.items()
    ]
    parts = [
        html.heading("Classes"),
        html.bars({name: len(rows) for name, rows in rows_of.items()}),
        html.subheading("Mean faces: the sharper, the better aligned"),
        html.small(means),
    ]
    for name, rows in rows_of.items():
        faces = _shown(lake, _spread(lake, rows, SHEET_FACES))
        parts += [
            html.subheading(f"{name}: {_counted(len(rows), 'face')}"),
            html.picture(faces, columns=SHEET_COLUMNS, words=f"faces of {name}"),
        ]
    return parts


def _mean(lake: Lake, rows: Sequence[int]) -> np.ndarray:
    chosen = _spread(lake, rows, MEAN_FACES)
    total_HWC = np.zeros(lake.faces.shape[1:])
    for row in chosen:
        total_HWC += lake.faces[row]
    return _sized(np.round(total_HWC / len(chosen)).astype(np.uint8))[None]


def _subjects(lake: Lake, audit: dict) -> list[str]:
    counts = Counter(one for one in lake.table["subject"].to_pylist() if one is not None)
    unknown = len(lake) - counts.total()
    parts = [html.heading("Subjects")]
    if counts:
        parts.append(html.text("How many subjects have how many faces:"))
        parts.append(html.bars(_ranges(list(counts.values()), "face")))
        alone = len(audit["one_class_subjects"])
        have = "has" if alone == 1 else "have"
        parts.append(
            html.text(
                f"{_counted(alone, 'subject')} ({alone / len(counts):.0%}) {have} several faces "
                "and one class alone: who knows the subject knows the class."
            )
        )
    if unknown:
        are = "is" if unknown == 1 else "are"
        parts.append(html.text(f"{_counted(unknown, 'face')} {are} of nobody known.", "dim"))
    return parts


def _alignment(lake: Lake) -> list[str]:
    counts = {PLACED.get(name, name): count for name, count in lake.manifest.alignments.items()}
    parts = [html.heading("Alignment"), html.bars(counts)]
    rows_of = _rows_by(lake, "alignment")
    for name in ("fallback", "centre"):
        if rows := rows_of.get(name):
            faces = _shown(lake, rows[:PLACED_FACES])
            parts += [
                html.subheading(PLACED[name]),
                html.picture(faces, columns=SHEET_COLUMNS, words=f"faces placed {PLACED[name]}"),
            ]
    confidence = lake.table["confidence"].to_numpy()
    weakest = [int(row) for row in np.argsort(confidence, kind="stable") if 0 < confidence[row] < 1]
    if weakest:
        faces = _shown(lake, weakest[:PLACED_FACES])
        low = f"confidence from {confidence[weakest[0]]:.2f}"
        parts += [
            html.subheading("the least certain"),
            html.picture(faces, columns=SHEET_COLUMNS, words="least certain faces", caption=low),
        ]
    return parts


def _sizes(lake: Lake) -> list[str]:
    table = lake.table
    if table["crop_matrix"].null_count:
        return []
    matrices_N23 = np.array(table["crop_matrix"].to_pylist()).reshape(-1, 2, 3)
    areas_N = np.maximum(np.abs(np.linalg.det(matrices_N23[:, :, :2])), 1e-12)
    sides_N = lake.manifest.image_size / np.sqrt(areas_N)
    columns = (table[name].to_pylist() for name in ("source_width", "source_height"))
    sizes = Counter(f"{width} × {height}" for width, height in zip(*columns, strict=True))
    small = float((sides_N < lake.manifest.image_size).mean())
    return [
        html.heading("Sizes"),
        html.text("Side of what a face shows, in pixels of the picture:"),
        html.bars(_ranges(sides_N.round().astype(int).tolist(), "pixel")),
        html.text(f"{small:.0%} have fewer than the lake's {lake.manifest.image_size} pixels."),
        html.subheading(f"Pictures: {_counted(len(sizes), 'size')}, most often"),
        html.bars(dict(sizes.most_common(6))),
    ]


def _quarantine(lake: Lake) -> list[str]:
    if not lake.manifest.rejected:
        return [html.heading("Refused"), html.text("Nothing was refused.")]
    examples: defaultdict[str, list[str]] = defaultdict(list)
    with (lake.path / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if len(examples[row["reason"]]) < 3:
                examples[row["reason"]].append(row["name"])
    rows = [
        (reason, f"{count:,}", ", ".join(examples[reason]))
        for reason, count in lake.manifest.rejected.items()
    ]
    return [html.heading("Refused"), html.table(("reason", "files", "such as"), rows)]


def _audit(lake: Lake, audit: dict) -> list[str]:
    place = {name: row for row, name in enumerate(lake.table["name"].to_pylist())}
    parts = [
        html.heading("Audit"),
        html.text(
            f"{_counted(audit['exact_copies'], 'exact copy', 'exact copies')}, "
            f"{_counted(audit['near_copies'], 'near one')}; "
            f"{_counted(len(audit['label_conflicts']), 'group of copies', 'groups of copies')} "
            f"with different labels, {len(audit['subject_conflicts']):,} with different subjects."
        ),
    ]
    pictures = [
        html.picture(
            _shown(lake, [place[file] for file in one["files"]]),
            columns=2,
            words="two faces that show the same",
            caption=" / ".join(one["files"]),
        )
        for one in audit["copies"][:EXAMPLES]
    ]
    if pictures:
        parts.append(html.pairs(pictures))
    if audit["giveaways"]:
        rows = [(one["expression"], one["cue"], one["area"]) for one in audit["giveaways"]]
        columns = ("class", "given away by", "area under the ROC curve (chance: 0.5)")
        parts += [html.text("Something other than expression tells a class:", "warn")]
        parts += [html.table(columns, rows)]
    return parts


def _rows_by(lake: Lake, column: str) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(lake.table[column].to_pylist()):
        found[value or UNLABELLED].append(row)
    return dict(sorted(found.items()))


def _spread(lake: Lake, rows: Sequence[int], count: int) -> list[int]:
    """Some of the rows, of as many subjects as can be; the same ones every time."""
    subjects = lake.table["subject"].take(list(rows)).to_pylist()
    keys = seeds.keys(0, "contact sheet", np.asarray(rows)).tolist()
    seen: Counter[str | None] = Counter()
    order = []
    for key, row, subject in sorted(zip(keys, rows, subjects, strict=True)):
        order.append((seen[subject] if subject is not None else 0, key, row))
        seen[subject] += 1
    return [row for _, _, row in sorted(order)[:count]]


def _shown(lake: Lake, rows: Sequence[int]) -> np.ndarray:
    return np.stack([_sized(lake.faces[row]) for row in rows])


def _sized(face_HWC: np.ndarray) -> np.ndarray:
    way = cv2.INTER_AREA if len(face_HWC) > SHOWN_PIXELS else cv2.INTER_NEAREST
    sized = cv2.resize(face_HWC, (SHOWN_PIXELS, SHOWN_PIXELS), interpolation=way)
    return sized.reshape(SHOWN_PIXELS, SHOWN_PIXELS, -1)


def _ranges(values: Sequence[int], unit: str) -> dict[str, int]:
    """Counts by ranges that double: 1, 2, 3-4, 5-8 and so on, from the first that is not empty."""
    powers = np.ceil(np.log2(np.maximum(values, 1))).astype(int)
    counts = {}
    for power in range(int(powers.min()), int(powers.max()) + 1):
        low, high = (2 ** (power - 1) + 1 if power else 1), 2**power
        span = f"{low}" if low == high else f"{low}–{high}"
        counts[f"{span} {unit}{'' if high == 1 else 's'}"] = int((powers == power).sum())
    return counts


def _counted(count: int, one: str, several: str = "") -> str:
    """`1 face`, `1,234 faces`; `several` where that is not `one` with an s."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
