"""How fast `drawn` draws, and how hard its faces are.

Method. Speed: faces of 128 px in CPU seconds of one process with one thread, the median of five
rounds of 256 faces after one round of warm-up. Difficulty: the default scan (60 subjects for
training and 20 unseen ones, 40 faces each), drawn and aligned at 128 px to the 128 framing by the
five points that the drawn landmarks give; accuracy on the unseen subjects of

- HOG (64 px grey, cells of 8, blocks of 2 x 2 cells, 9 orientations) and a linear SVM;
- colour alone: a linear SVM on the picture's 8 x 8 mean colours, whether tints give the label away;
- a plain CNN below 0.5 M parameters on 48 px RGB, shifted and mirrored, for a fixed CPU time.

    python -m benchmarks.drawn [--cnn-seconds 90] [--out benchmarks/results/drawn.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torch.nn import functional

from data_service.corpora import drawn
from data_service.schema import Expression, SourceFace

TEMPLATE_L2 = np.array(
    [[0.361677, 0.403877], [0.636967, 0.402355], [0.500197, 0.560442], [0.387104, 0.721605],
     [0.615077, 0.720345]]
)  # fmt: skip
CLASSES = tuple(Expression)


def five_points(landmarks_L3: np.ndarray) -> np.ndarray:
    """Eye centres, nose tip and mouth corners of 68 points: [5, 2]."""
    points = landmarks_L3[:, :2]
    eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
    return np.stack([*eyes, points[30], points[48], points[54]])


def similarity(points_L2: np.ndarray, target_L2: np.ndarray) -> np.ndarray:
    """The least-squares similarity that moves points to target, as a 2 x 3 matrix."""
    (x, y), (tx, ty) = points_L2.T, target_L2.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, dx, dy = np.linalg.lstsq(rows, np.concatenate([tx, ty]), rcond=None)[0]
    return np.array([[a, -b, dx], [b, a, dy]])


def aligned(faces: tuple[SourceFace, ...], size: int) -> np.ndarray:
    """Drawn and warped to the 128 framing: uint8 [B, size, size, 3]."""
    crops = np.empty((len(faces), size, size, 3), np.uint8)
    for start in range(0, len(faces), 256):
        part = faces[start : start + 256]
        for offset, (face, picture) in enumerate(zip(part, drawn.images(part))):
            matrix = similarity(five_points(face.landmarks_L3), TEMPLATE_L2 * size)
            crops[start + offset] = cv2.warpAffine(
                picture, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE
            )
    return crops


def faces_per_second() -> list[float]:
    """Five rounds of 256 faces."""
    faces = drawn.scan(None, subjects=8, faces_per_subject=32).faces
    drawn.images(faces)
    rounds = []
    for _ in range(5):
        start = time.process_time()
        drawn.images(faces)
        rounds.append(len(faces) / (time.process_time() - start))
    return rounds


def hog_features(crops: np.ndarray) -> np.ndarray:
    """HOG of crops at 64 px grey (Dalal and Triggs, 2005: L2-Hys, unsigned), [B, 1764]."""
    grey = _grey(crops, 64).astype(np.float32)
    dy, dx = np.zeros_like(grey), np.zeros_like(grey)
    dy[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    dx[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    place = np.mod(np.arctan2(dy, dx), np.pi) * (9 / np.pi) - 0.5
    low = np.floor(place)
    share = place - low
    length = np.sqrt(dx * dx + dy * dy)
    cells = np.empty((len(crops), 8, 8, 9), np.float32)
    for bin_ in range(9):
        weight = (low % 9 == bin_) * (1 - share) + ((low + 1) % 9 == bin_) * share
        cells[..., bin_] = (weight * length).reshape(-1, 8, 8, 8, 8).mean(axis=(2, 4))
    blocks = np.concatenate([cells[:, y : y + 7, x : x + 7] for y in (0, 1) for x in (0, 1)], -1)
    blocks /= np.sqrt((blocks**2).sum(-1, keepdims=True) + 1e-2)
    np.minimum(blocks, 0.2, out=blocks)
    blocks /= np.sqrt((blocks**2).sum(-1, keepdims=True) + 1e-6)
    return blocks.reshape(len(crops), -1)


def linear_svm(train: tuple, test: np.ndarray, groups: np.ndarray, costs: tuple) -> np.ndarray:
    """Predictions of features `test` after `train` (features, labels); C chosen by folds."""
    search = GridSearchCV(LinearSVC(), {"C": list(costs)}, cv=GroupKFold(3))
    search.fit(*train, groups=groups)
    return search.predict(test)


def mean_colours(crops: np.ndarray) -> np.ndarray:
    """Mean colours on a grid of 8 x 8, centred per picture and channel: [B, 192]."""
    side = crops.shape[1] // 8
    grid = crops.reshape(len(crops), 8, side, 8, side, 3).mean(axis=(2, 4)) / 255.0
    return (grid - grid.mean(axis=(1, 2), keepdims=True)).reshape(len(crops), -1)


class SmallCnn(nn.Sequential):
    """Six convolutions and a linear layer, 0.32 M parameters, on standardised pictures."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.InstanceNorm2d(3)]
        for wide, out, stride in (
            (3, 24, 2),
            (24, 32, 1),
            (32, 64, 2),
            (64, 64, 1),
            (64, 128, 2),
            (128, 128, 1),
        ):
            layers += [nn.Conv2d(wide, out, 3, stride=stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(128 * 36, len(CLASSES)))


def _batch(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Mirrored at random and shifted by up to 2 px."""
    flip = torch.rand(len(pictures), generator=random) < 0.5
    pictures = torch.where(flip[:, None, None, None], pictures.flip(3), pictures)
    dy, dx = torch.randint(-2, 3, (2,), generator=random).tolist()
    return pictures.roll((dy, dx), (2, 3))


def train_cnn(train: tuple, test: tuple, seconds: float) -> tuple[np.ndarray, dict]:
    """Predictions for the unseen subjects after a fixed time of training, and what it took."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    net = SmallCnn().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    pictures, labels = _tensor(train[0]), torch.from_numpy(train[1])
    start, seen = time.process_time(), 0
    while (spent := time.process_time() - start) < seconds:
        share = spent / seconds
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(share * 10.0 + 0.02, 1.0, 1.11 * (1.0 - share) + 0.005)
        rows = torch.randint(0, len(pictures), (48,), generator=random)
        logits = net(_batch(pictures[rows], random))
        loss = functional.cross_entropy(logits, labels[rows], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen += len(rows)
    net.eval()
    with torch.no_grad():
        predicted = torch.cat([net(part).argmax(1) for part in _tensor(test[0]).split(200)]).numpy()
    facts = {
        "parameters": sum(p.numel() for p in net.parameters()),
        "epochs": round(seen / len(pictures), 1),
        "cpu_seconds": round(time.process_time() - start, 1),
        "last_batch_loss": round(float(loss), 3),
    }
    return predicted, facts


def _tensor(crops: np.ndarray) -> Tensor:
    small = np.stack([cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA) for crop in crops])
    picture = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    return picture.contiguous(memory_format=torch.channels_last)


def _grey(crops: np.ndarray, size: int) -> np.ndarray:
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    return np.stack([cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in grey])


def score(truth: np.ndarray, predicted: np.ndarray) -> dict:
    """Accuracy, recall per class, and the confusion matrix (rows: truth)."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (truth, predicted), 1)
    recall = confusion.diagonal() / confusion.sum(axis=1)
    return {
        "accuracy": round(float((truth == predicted).mean()), 4),
        "recall": {name: round(float(value), 3) for name, value in zip(CLASSES, recall)},
        "confusion": confusion.tolist(),
    }


def hardware() -> dict:
    """Processor and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    versions = {"numpy": np.__version__, "torch": torch.__version__, "opencv": cv2.__version__}
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def main(arguments: list[str]) -> None:
    """Runs the whole benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=80)
    parser.add_argument("--unseen", type=int, default=20)
    parser.add_argument("--cnn-seconds", type=float, default=90.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rounds = faces_per_second()
    result: dict = {
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),
        "command": "python -m benchmarks.drawn " + " ".join(arguments),
        "hardware": hardware(),
        "faces_per_cpu_second_128px": {
            "median": round(float(np.median(rounds)), 1),
            "rounds": [round(value, 1) for value in rounds],
        },
    }
    faces = drawn.scan(None, subjects=options.subjects, seed=options.seed).faces
    crops = aligned(faces, 128)
    labels = np.array([CLASSES.index(face.expression) for face in faces])
    subjects = np.array([face.subject for face in faces])
    seen = subjects < f"s{options.subjects - options.unseen:04d}"
    train, test = (crops[seen], labels[seen]), (crops[~seen], labels[~seen])
    result["faces"] = {"train": int(seen.sum()), "unseen": int((~seen).sum())}
    for name, features, costs in (
        ("hog_linear_svm", hog_features, (0.003, 0.01, 0.03)),
        ("colour_linear_svm", mean_colours, (0.1, 1.0, 10.0)),
    ):
        fitted = (features(train[0]), train[1])
        predicted = linear_svm(fitted, features(test[0]), subjects[seen], costs)
        result[name] = score(test[1], predicted)
    predicted, facts = train_cnn(train, test, options.cnn_seconds)
    result["cnn"] = {**facts, **score(test[1], predicted)}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
