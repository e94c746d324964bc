"""Frames of videos: the right ones, upright, once; whatever is wrong with a file has a reason."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.error import FFmpegError

from data_service.alignment import video
from data_service.alignment.decode import UnreadableImageError

FRAMES = 20


def film(path: Path, codec: str = "mjpeg", frames: int = FRAMES) -> Path:
    """A film whose frame n is grey 10 n all over."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            grey_HW3 = np.full((64, 96, 3), 10 * number, np.uint8)
            picture = av.VideoFrame.from_ndarray(grey_HW3, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "mjpeg"),
        ("a.avi", "mpeg4"),
        ("a.mpg", "mpeg2video"),
        ("a.mp4", "libx264"),
        ("a.mkv", "ffv1"),
    ],
)
def test_the_frames_that_were_asked_for(name, codec, tmp_path):
    path = film(tmp_path / name, codec)
    assert video.count_frames(path) == FRAMES
    first, seventh, last = video.read_frames(path, [0, 7, 19])
    for number, picture in ((0, first), (7, seventh), (19, last)):
        assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8
        assert abs(picture.mean() - 10 * number) < 5


def test_no_more_is_decoded_than_asked_for(tmp_path, monkeypatch):
    path, shown = film(tmp_path / "a.avi"), []
    monkeypatch.setattr(video, "_rgb", lambda frame: shown.append(frame) or np.zeros((1, 1, 3)))
    list(video.read_frames(path, [3, 4, 5]))
    assert len(shown) == 3


def test_a_video_that_was_cut_has_no_middle(tmp_path):
    path = film(tmp_path / "a.avi", "rawvideo")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(UnreadableImageError, match=r"video ends early: 1[12] of 20 frames"):
        video.count_frames(path)
    third, last = video.read_frames(path, [3, 19])
    assert abs(third.mean() - 30) < 5
    assert isinstance(last, UnreadableImageError)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a video"),
        (b"a text that is no video at all " * 20, "not a video"),
        (b"#EXTM3U\n#EXTINF:9,\nother.avi\n#EXT-X-ENDLIST\n", "not a video"),
        (b"ffconcat version 1.0\nfile other.avi\n", "not a video"),
    ],
)
def test_what_is_no_video_has_a_reason(content, reason, tmp_path):
    film(tmp_path / "other.avi")
    path = tmp_path / "a.avi"
    path.write_bytes(content)
    for read in (video.count_frames, lambda path: list(video.read_frames(path, [0]))):
        with pytest.raises(UnreadableImageError) as caught:
            read(path)
        assert caught.value.reason == reason


def test_a_title_in_another_encoding_costs_no_video(tmp_path):
    path = film(tmp_path / "a.avi")
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"L\xe4vf"))
    assert video.count_frames(path) == FRAMES
    assert abs(next(video.read_frames(path, [7])).mean() - 70) < 5


def test_a_codec_that_nobody_knows_is_told(tmp_path):
    path = film(tmp_path / "a.avi")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    for read in (video.count_frames, lambda path: list(video.read_frames(path, [0]))):
        with pytest.raises(UnreadableImageError, match="codec not known"):
            read(path)


def test_a_frame_that_cannot_be_converted_is_told_as_well_as_those_behind_it(tmp_path, monkeypatch):
    path, shown = film(tmp_path / "a.avi"), video._rgb

    def convert(frame):
        if frame.pts == 7:
            raise FFmpegError(1, "no such conversion")
        return shown(frame)

    monkeypatch.setattr(video, "_rgb", convert)
    first, *others = video.read_frames(path, [3, 7, 19])
    assert abs(first.mean() - 30) < 5
    assert [(one.reason, one.detail) for one in others] == [
        ("damaged video", "no such conversion")
    ] * 2


def test_a_missing_video_and_a_huge_one(tmp_path, monkeypatch):
    with pytest.raises(UnreadableImageError, match=r"file missing: none.avi"):
        video.count_frames(tmp_path / "none.avi")
    monkeypatch.setattr(video, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(UnreadableImageError, match="too many pixels"):
        video.count_frames(film(tmp_path / "a.avi"))


def test_any_damage_is_a_reason_and_never_another_error(tmp_path):
    rng = np.random.default_rng(3)
    for codec in ("mjpeg", "mpeg4"):
        whole = np.frombuffer(film(tmp_path / "a.avi", codec).read_bytes(), np.uint8)
        for _ in range(12):
            damaged = whole.copy()
            damaged[rng.integers(0, len(damaged), 40)] = rng.integers(0, 255, 40)
            (tmp_path / "b.avi").write_bytes(damaged.tobytes())
            try:
                video.count_frames(tmp_path / "b.avi")
                pictures = list(video.read_frames(tmp_path / "b.avi", [0, 10, 19]))
            except UnreadableImageError:
                continue
            assert len(pictures) == 3


def test_of_interlaced_fields_the_first_is_kept():
    frame = av.VideoFrame(8, 7, "rgb24")
    lines_HW3 = np.zeros((7, 8, 3), np.uint8)
    lines_HW3[0::2] = np.arange(0, 160, 40)[:, None, None]
    lines_HW3[1::2] = 255
    frame = av.VideoFrame.from_ndarray(lines_HW3, format="rgb24")

    class Interlaced:
        interlaced_frame, rotation = True, 0
        to_ndarray = staticmethod(frame.to_ndarray)

    assert video._rgb(Interlaced())[:, 0, 0].tolist() == [0, 20, 40, 60, 80, 100, 120]
