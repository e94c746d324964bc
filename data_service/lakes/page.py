"""A page of one file: text, bars, tables and pictures, without anything from elsewhere.

Shapes: N faces, H height, W width, C channels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

_GAP = 2
_QUALITY = 85
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #667079; --paper: #fff;
  --line: #dfe3e7; --bar: #3b6ea5; --warn: #a3480d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #98a2ab; --paper: #15191d;
  --line: #313840; --bar: #6ea3dc; --warn: #f0a265; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .4rem 0; max-width: 44rem; } .dim { color: var(--dim); overflow-wrap: anywhere; }
.warn { color: var(--warn); }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.2rem 0; }
.tile { flex: 1 1 7rem; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
.tile b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .25rem .7rem;
  align-items: center; }
.bars i { display: block; height: .9rem; background: var(--bar); border-radius: 2px; }
.bars span:nth-child(3n) { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; } th { color: var(--dim); font-weight: 500; }
img { display: block; max-width: 100%; height: auto; border-radius: 3px; }
figure { margin: .5rem 0; }
figcaption { color: var(--dim); font-size: .85rem; overflow-wrap: anywhere; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem; }
.small { grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def heading(text: str) -> str:
    """The start of a section."""
    return f"<h2>{escape(text)}</h2>"


def subheading(text: str) -> str:
    """The start of a part of a section."""
    return f"<h3>{escape(text)}</h3>"


def text(words: str, kind: str = "") -> str:
    """A paragraph; `kind` is dim or warn."""
    return f'<p class="{kind}">{escape(words)}</p>' if kind else f"<p>{escape(words)}</p>"


def tiles(figures: Mapping[str, object]) -> str:
    """Figures side by side, each over its name."""
    made = (
        f'<div class="tile"><b>{escape(str(v))}</b>{escape(k)}</div>' for k, v in figures.items()
    )
    return f'<div class="tiles">{"".join(made)}</div>'


def bars(counts: Mapping[str, float]) -> str:
    """Names with bars, the longest as wide as the page."""
    longest = max(counts.values(), default=0) or 1
    rows = (
        f"<span>{escape(name)}</span><i style='width:{100 * count / longest:.1f}%'></i>"
        f"<span>{count:,}</span>"
        for name, count in counts.items()
    )
    return f'<div class="bars">{"".join(rows)}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table that scrolls by itself where it is wider than the page."""
    head = "".join(f"<th>{escape(one)}</th>" for one in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def picture(faces_NHWC: np.ndarray, *, columns: int, words: str, caption: str = "") -> str:
    """Faces (uint8) side by side in rows of `columns`; `words` say to the blind what they are."""
    file = io.BytesIO()
    Image.fromarray(sheet_of(faces_NHWC, columns)).save(file, "WEBP", quality=_QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    shown = f'<img src="data:image/webp;base64,{data}" alt="{escape(words)}">'
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{shown}{told}</figure>"


def small(pictures: Sequence[str]) -> str:
    """Small pictures in as many columns as there is room for."""
    return f'<div class="pairs small">{"".join(pictures)}</div>'


def pairs(pictures: Sequence[str]) -> str:
    """Pictures of two faces, likewise."""
    return f'<div class="pairs">{"".join(pictures)}</div>'


def sheet_of(faces_NHWC: np.ndarray, columns: int) -> np.ndarray:
    """H x W x 4: `columns` faces in a row; what lies between and after them is transparent."""
    count, height, width = faces_NHWC.shape[:3]
    rows = -(-count // columns)
    size = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 4)
    sheet = np.zeros(size, np.uint8)
    for index, face_HWC in enumerate(faces_NHWC):
        row, column = divmod(index, columns)
        top, left = row * (height + _GAP), column * (width + _GAP)
        place = sheet[top : top + height, left : left + width]
        place[..., :3], place[..., 3] = face_HWC, 255
    return sheet
