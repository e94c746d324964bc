"""Pictures of every kind become RGB; files that are no pictures become short reasons."""

import contextlib
import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data_service.alignment.decode import MAX_PIXELS, UnreadableImageError, decode, grey, read_bytes

RAMP_HW = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


def encoded(image: Image.Image, kind: str = "PNG", **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def reason_of(content: bytes) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        decode(content)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_pictures_become_rgb(kind):
    picture = decode(encoded(Image.fromarray(RAMP_HW), kind))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.repeat(RAMP_HW[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_high_byte(kind):
    deep = Image.fromarray(RAMP_HW.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(encoded(deep, kind))[..., 1], RAMP_HW)


def test_one_bit_is_black_and_white():
    picture = decode(encoded(Image.fromarray(RAMP_HW > 100)))
    np.testing.assert_array_equal(picture[..., 0], np.where(RAMP_HW > 100, 255, 0))


def test_transparent_parts_become_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (200, 10, 20, 255)
    picture = decode(encoded(Image.fromarray(pixels, "RGBA")))
    assert picture[0, 0].tolist() == [200, 10, 20]
    assert picture[1, 1].tolist() == [255, 255, 255]


def test_transparent_palette_colour_becomes_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 90, 80, 70])
    image.putpixel((1, 0), 1)
    picture = decode(encoded(image, transparency=0))
    assert picture[0].tolist() == [[255, 255, 255], [90, 80, 70]]


def test_cmyk_jpeg_has_its_colours():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    picture = decode(encoded(red, "JPEG", quality=95)).mean(axis=(0, 1))
    assert picture[0] > 240 and picture[1] < 15 and picture[2] < 15


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned clockwise
    content = encoded(Image.fromarray(RAMP_HW), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(content)[..., 0], np.rot90(RAMP_HW, -1))


def test_exif_that_is_cut_costs_no_picture():
    exif = Image.Exif()
    exif[0x010E] = "a description that is longer than what is left of it"
    content = encoded(Image.fromarray(RAMP_HW), "JPEG", exif=exif)
    start = content.index(b"Exif\0\0")
    cut = content[start : start + 20]
    length = (2 + len(cut)).to_bytes(2, "big")
    end = start - 2 + int.from_bytes(content[start - 2 : start], "big")
    damaged = content[: start - 2] + length + cut + content[end:]
    np.testing.assert_array_equal(decode(damaged), decode(content))


def test_format_is_told_from_the_content(tmp_path):
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(Image.fromarray(RAMP_HW), "JPEG"))
    assert decode(read_bytes(path)).shape == (4, 6, 3)


def test_too_many_pixels_are_refused_by_the_header_alone():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    for side in (int(MAX_PIXELS**0.5) + 1, 10_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"no pixels")
        assert reason_of(content) == "too many pixels"


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_animated_pictures_are_refused(kind):
    frames = [Image.fromarray(RAMP_HW + step) for step in (0, 5, 9)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert reason_of(content) == "animated image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_truncated_pictures_are_refused(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    assert reason_of(content[: len(content) // 2]) in ("damaged image", "not an image")


def test_what_is_no_picture_has_a_reason():
    assert reason_of(b"") == "empty file"
    assert reason_of(b"file,subject,expression\n") == "not an image"
    assert reason_of(encoded(Image.fromarray(RAMP_HW), "WEBP")) == "not an image"
    assert reason_of(encoded(Image.fromarray(RAMP_HW.astype(np.float32)), "TIFF")) == (
        "pixel type not supported"
    )


def test_any_damage_is_a_reason_and_never_another_error():
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "GIF"):
        whole = np.frombuffer(encoded(Image.fromarray(noise), kind), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            at = rng.integers(0, len(damaged), 6)
            damaged[at] = rng.integers(0, 255, len(at))
            with contextlib.suppress(UnreadableImageError):
                assert decode(damaged.tobytes()).ndim == 3


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing.jpg", ".", "pipe"):
        with pytest.raises(UnreadableImageError, match="file missing"):
            read_bytes(tmp_path / name)


def test_the_error_crosses_processes():
    error = pickle.loads(pickle.dumps(UnreadableImageError("damaged image", "half")))
    assert (error.reason, error.detail) == ("damaged image", "half")


def test_grey_is_the_luma_of_the_standard():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert grey(colours)[0, :, 0].tolist() == [76, 150, 29, 255]


def test_luma_is_rounded_as_whole_numbers_are():
    reds = np.arange(256, dtype=np.uint8)
    colours = np.stack(np.meshgrid(reds, reds[::5], reds[::3], indexing="ij"), axis=-1)
    colours = colours.reshape(256, -1, 3)
    expected = (colours @ np.array([299, 587, 114]) + 500) // 1000
    np.testing.assert_array_equal(grey(colours)[..., 0], expected)
