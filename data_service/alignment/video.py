"""Frames of untrusted videos: only pixels are decoded, once and in order, a frame at a time.

Shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from data_service.alignment.decode import UnreadableImageError
from data_service.alignment.ordinary import open_ordinary

SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"})
CONTAINERS = "avi,matroska,webm,mov,mp4,mpeg,mpegts"
"""What FFmpeg may take a file for; none of these opens another file or an address."""
MAX_PIXELS = 2560 * 1600
"""Of a frame. A decoder keeps up to sixteen of them, so that they must be smaller than pictures."""
WHOLE_SHARE = 0.95
"""A file that holds less than this of the frames that its header tells has been cut."""


def count_frames(path: Path) -> int:
    """How many frames a video has, without decoding any.

    UnreadableImageError for a file that is no video, and for one that ends before its header says:
    its middle would not be the middle of what was filmed.
    """
    with _opened(path) as (container, stream):
        found = sum(1 for packet in container.demux(stream) if packet.size)
        if not found:
            raise UnreadableImageError("empty video")
        if found < WHOLE_SHARE * stream.frames:
            raise UnreadableImageError("video ends early", f"{found} of {stream.frames} frames")
        return found


def read_frames(path: Path, wanted: Sequence[int]) -> Iterator[np.ndarray | UnreadableImageError]:
    """The frames of those numbers (from 0, ascending) as RGB uint8 H x W x 3, upright.

    A frame that is damaged, or that the video does not reach, is its error instead. Raises
    UnreadableImageError for a file that is no video.
    """
    assert list(wanted) == sorted(set(wanted)), "frames are decoded in order, each once"
    left = list(wanted)
    with _opened(path) as (container, stream):
        try:
            for number, frame in enumerate(container.decode(stream)):
                if number == left[0]:
                    damaged = frame.is_corrupt
                    picture = UnreadableImageError("damaged frame") if damaged else _rgb(frame)
                    left.pop(0)
                    yield picture
                    if not left:
                        return
            why = UnreadableImageError("video ends early")
        except FFmpegError as error:
            why = UnreadableImageError("damaged video", error.strerror or str(error))
        for _ in left:
            yield why


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The video stream of a file, on one thread, its frames of bounded size."""
    try:
        with open_ordinary(path) as file:
            # by its content alone, through this file alone; its title may be in any encoding
            options = {"format_whitelist": CONTAINERS}
            with av.open(file, "r", options=options, metadata_errors="replace") as container:
                if not container.streams.video:
                    raise UnreadableImageError("not a video", "it has no pictures")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise UnreadableImageError("codec not known")
                width, height = stream.codec_context.width, stream.codec_context.height
                if width * height > MAX_PIXELS:
                    raise UnreadableImageError("too many pixels", f"at most {MAX_PIXELS} a frame")
                stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
                stream.thread_count, stream.thread_type = 1, "NONE"
                yield container, stream
    except FFmpegError as error:
        raise UnreadableImageError("not a video", error.strerror or str(error)) from error
    except FileNotFoundError as error:
        raise UnreadableImageError("file missing", path.name) from error
    except OSError as error:
        raise UnreadableImageError("file not readable", error.strerror or str(error)) from error


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """Pixels of a frame, turned as the file says; the second of two interlaced fields is replaced,
    because it shows another moment."""
    image_HW3 = frame.to_ndarray(format="rgb24")
    if frame.interlaced_frame:
        first, below = image_HW3[:-1:2], image_HW3[2::2]
        between = image_HW3[1::2]
        between[: len(below)] = (first[: len(below)].astype(np.uint16) + below + 1) // 2
        between[len(below) :] = first[len(below) :]
    return np.ascontiguousarray(np.rot90(image_HW3, round(frame.rotation / 90)))
