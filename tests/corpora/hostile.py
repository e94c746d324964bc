"""What people have on disk: pictures of every kind, and files that harm whoever trusts them.

A source of the corpus `folders`. `build` gives what must become of each of its files.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from data_service.alignment.decode import MAX_FILE_BYTES
from data_service.schema import Expression
from tests.corpora.pictures import encoded, face, write

TAKEN = ""


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.makedirs, (str(self._trace),)


def build(root: Path) -> dict[str, str]:
    """Fills `root`/source; the reason of each file below it, `TAKEN` where it is a picture.

    A file that unpickles itself makes the folder `root`/unpickled.
    """
    source = root / "source"
    fates: dict[str, str] = {}

    def put(name: str | bytes, content: bytes, reason: str = TAKEN) -> None:
        folder = source / "neutral"
        folder.mkdir(parents=True, exist_ok=True)
        with open(os.path.join(os.fsencode(folder), os.fsencode(name)), "wb") as file:
            file.write(content)
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        fates[f"neutral/{shown}"] = reason

    for name, content in _pictures().items():
        put(name, content)
    for name, (content, reason) in _refused(root / "unpickled").items():
        put(name, content, reason)
    put(b"\xff\xfe.jpg", encoded(_picture()), "name not Unicode")
    with open(source / "neutral" / "large.bmp", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    fates["neutral/large.bmp"] = "file too large"
    _links(root, source, fates)
    return fates


def _picture(subject: int = 0) -> np.ndarray:
    return face(subject, Expression.NEUTRAL)


def _pictures() -> dict[str, bytes]:
    """Files that are read rightly."""
    image = Image.fromarray(_picture())
    turned = Image.Exif()
    turned[0x0112] = 8
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return {
        "1 bit.png": _saved(image.convert("1"), "PNG"),
        "16 bit.png": _saved(deep, "PNG"),
        "16 bit.tif": _saved(deep, "TIFF"),
        "cmyk.jpg": _saved(image.convert("CMYK"), "JPEG"),
        "palette.gif": _saved(image.convert("P"), "GIF"),
        "palette, clear.png": _saved(image.convert("P"), "PNG", transparency=0),
        "alpha.png": _saved(clear, "PNG"),
        "grey alpha.png": _saved(clear.convert("LA"), "PNG"),
        "turned.jpg": _saved(image, "JPEG", exif=turned),
        "progressive.jpg": _saved(image, "JPEG", progressive=True),
        "pages.tif": _saved(image, "TIFF", save_all=True, append_images=[image]),
        "a jpeg.png": _saved(image, "JPEG"),
        "a png.txt": _saved(image, "PNG"),
        "no suffix": _saved(image, "JPEG"),
        "zoë “quoted”.jpg": _saved(image, "JPEG"),
        "two..dots...jpg": _saved(image, "JPEG"),
        "line\nbreak.jpg": _saved(image, "JPEG"),
        'comma, "quote".jpg': _saved(image, "JPEG"),
        "\u00e9.jpg": _saved(image, "JPEG"),
        "e\u0301.jpg": _saved(image, "JPEG"),  # looks like the name before it
        "twice.jpg": _saved(image, "JPEG"),
        "Twice.JPG": _saved(image, "JPEG"),
    }


def _refused(trace: Path) -> dict[str, tuple[bytes, str]]:
    """Files that must not become faces, and why."""
    image = Image.fromarray(_picture())
    jpeg, png = _saved(image, "JPEG"), _saved(image, "PNG")
    frames = [Image.fromarray(_picture(subject)) for subject in (1, 2)]
    moving = {"save_all": True, "append_images": frames}
    objects = io.BytesIO()
    np.save(objects, np.array([Evil(trace)], dtype=object), allow_pickle=True)
    real = Image.fromarray(_picture()[..., 0].astype(np.float32))
    return {
        "empty.jpg": (b"", "empty file"),
        "carriage\rreturn.jpg": (b"", "empty file"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "damaged image"),
        "half.png": (png[: len(png) // 2], "damaged image"),
        "header.png": (png[:20], "damaged image"),
        "text.jpg": (b"a picture? no", "not an image"),
        "webp.jpg": (_saved(image, "WEBP"), "not an image"),
        "Thumbs.db": (b"\xd0\xcf\x11\xe0", "not an image"),
        "pickle.jpg": (pickle.dumps(Evil(trace)), "not an image"),
        "objects.npy": (objects.getvalue(), "not an image"),
        "moving.gif": (_saved(image, "GIF", **moving), "animated image"),
        "moving.png": (_saved(image, "PNG", **moving), "animated image"),
        "float.tif": (_saved(real, "TIFF"), "pixel type not supported"),
        "bomb.png": (_png_header(60_000, 60_000), "too many pixels"),
        "narrow.png": (_png_header(1_000_000, 2), "too narrow"),
        "liar.png": (_png_header(3000, 3000), "damaged image"),
        "tile.tif": (_in_one_tile(16_384), "too many pixels"),
    }


def _links(root: Path, source: Path, fates: dict[str, str]) -> None:
    outside = write(root / "outside" / "secret.jpg", _picture(3))
    folder = source / "neutral"
    for name, target, reason in (
        ("link.jpg", folder / "cmyk.jpg", TAKEN),
        ("out.jpg", outside, "path outside the source"),
        ("device.jpg", Path("/dev/zero"), "path outside the source"),
        ("circle.jpg", folder / "circle.jpg", "file missing"),
        ("dangling.jpg", folder / "gone.jpg", "file missing"),
        ("elsewhere", root / "outside", "link to a folder"),
        ("up", source, "link to a folder"),
    ):
        (folder / name).symlink_to(target)
        fates[f"neutral/{name}"] = reason
    os.mkfifo(folder / "pipe.jpg")
    fates["neutral/pipe.jpg"] = "file missing"


def _saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def _in_one_tile(side: int) -> bytes:
    """A TIFF of 100 x 100 pixels that stand in a corner of a compressed tile."""
    tags = {256: 100, 257: 100, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side}
    tags |= {324: 8, 325: 8}  # where the tile lies, and its bytes
    told = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + told + struct.pack("<I", 0)


def _png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and has none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        made += struct.pack(">I", len(data)) + kind + data
        made += struct.pack(">I", zlib.crc32(kind + data))
    return made
