"""Pixels of untrusted image files: only pixels are decoded; a bad file is a reason, not a crash.

Shapes: H height, W width, C channels.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF")
MAX_PIXELS = 16_000_000
MAX_FILE_BYTES = 64 << 20
MAX_ASPECT = 50
STRIPE_PIXELS = 1 << 20
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
LUMA_3 = np.array([299, 587, 114], dtype=np.float32)
COLOUR_MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
)


class UnreadableImageError(ValueError):
    """A file that gives no picture. `reason` is a short stable phrase, `detail` what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)


def read_bytes(path: Path) -> bytes:
    """The content of an ordinary file; UnreadableImageError where there is none or too much."""
    try:
        if not path.is_file():
            raise UnreadableImageError("file missing", path.name)
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UnreadableImageError("file too large", f"{size} bytes, at most {MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError("file not readable", error.strerror or str(error)) from error


def decode(content: bytes) -> np.ndarray:
    """The picture of an encoded JPEG, PNG, BMP, TIFF or still GIF as RGB uint8 H x W x 3, upright.

    The format is told from the content, never from a name. The header is checked against
    `MAX_PIXELS`, of a tile too, and `MAX_ASPECT` before any pixel is decoded. Transparent parts
    become white. Besides the content no more than 256 MB are held at any moment. Raises
    UnreadableImageError.
    """
    if not content:
        raise UnreadableImageError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of EXIF that is cut, say: all pixels are there
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return _decode(content)
        except UnreadableImageError:
            raise
        except UnidentifiedImageError as error:
            raise UnreadableImageError("not an image", f"valid: {', '.join(FORMATS)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnreadableImageError("too many pixels", f"at most {MAX_PIXELS}") from error
        except Exception as error:  # decoders of damaged files raise nearly every type there is
            detail = f"{type(error).__name__}: {error}"
            raise UnreadableImageError("damaged image", detail[:200]) from error


def grey(image_HW3: np.ndarray) -> np.ndarray:
    """Luma of an RGB uint8 image (ITU-R BT.601), uint8 H x W x 1, rounded.

    The sums are whole numbers below 2**24, so that float32 has them, and the rounding, exactly.
    """
    luma_HW = image_HW3.astype(np.float32) @ LUMA_3
    luma_HW += 500
    luma_HW /= 1000
    return luma_HW.astype(np.uint8)[..., None]


def _decode(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        _refuse_large(width, height)
        if isinstance(image, TiffImageFile):  # whose tiles may be larger than itself
            _refuse_large(image.tag_v2.get(TILEWIDTH, 0), image.tag_v2.get(TILELENGTH, 0))
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise UnreadableImageError("too narrow", f"{width} x {height}")
        if image.format in ("GIF", "PNG") and getattr(image, "is_animated", False):
            raise UnreadableImageError("animated image", str(image.format))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image)


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImageError("too many pixels", f"{width} x {height}, at most {MAX_PIXELS}")


def _rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an image, by stripes: each conversion of a whole one would be a copy of it."""
    width, height = image.size
    image_HW3 = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIPE_PIXELS // width)
    for top in range(0, height, rows):
        stripe = image.crop((0, top, width, min(top + rows, height)))
        image_HW3[top : top + rows] = np.asarray(_as_rgb(stripe))
    return image_HW3


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        deep = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode not in COLOUR_MODES:
        raise UnreadableImageError("pixel type not supported", image.mode)
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")
