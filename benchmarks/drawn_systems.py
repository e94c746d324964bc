"""How well a trained run edits drawn faces: is the target seen, does intensity count, who is it.

Method. Three judges are trained on drawn subjects of their own (seed 1000, 200 subjects, 60 faces
each, intensities from 0 to 1): a recogniser of the eight classes, a regressor of each class'
intensity, an identity network over the subjects. None shares weights, subjects or architecture with
a system. The run edits 80 faces (4 of each) of 20 subjects that nobody has seen (seed 2000, default
difficulty). edit_accuracy: share of edits, at full intensity, to every class of the run, that the
recogniser reads as the target. intensity_correlation: for every face and every class but neutral,
Spearman's correlation of seven asked intensities (0 to 1) with what the regressor measures of that
class; the median. identity_rank_1: share of edits whose nearest of the 20 subjects, by cosine to
the mean of ten other real faces of each, is their own. The same is told of drawn truth: the same
subjects and sittings drawn with the asked expression, which is what a perfect system would do.

    python -m benchmarks.drawn_systems RUN... [--judges DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from data_service.alignment.align import as_delivered, placed_by
from data_service.corpora import drawn
from data_service.lakes.lake import Lake
from data_service.schema import Expression, FaceBatch
from data_service.transforms import centre_crop
from trainer import job
from trainer.restore import LoadedSystem, load_system

CLASSES = drawn.EXPRESSIONS
NEUTRAL = CLASSES.index(Expression.NEUTRAL)
JUDGE_SEED, TEST_SEED = 1000, 2000
JUDGE_SUBJECTS, JUDGE_FACES = 200, 60
TEST_SUBJECTS, TEST_FACES, EDITED_FACES, GALLERY_FACES = 20, 16, 4, 10
LEVELS = np.linspace(0.0, 1.0, 7)
EPOCHS = {"recogniser": 10, "regressor": 14, "identity": 10}
DRAWN_PIXELS = 128

Edit = Callable[[np.ndarray, int, float], Tensor]
"""Rows of the test faces, a class of CLASSES, an intensity: the edited faces [B, C, S, S]."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Faces:
    """Aligned drawn faces, float32 [N, C, S, S] in [-1, 1], with what is known of them."""

    faces_NCHW: Tensor
    class_N: np.ndarray
    intensity_N: np.ndarray
    subject_N: np.ndarray
    take_N: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How a run sees faces: the lake's side and framing, the side of the crop, grey or colour."""

    lake_pixels: int
    crop_pixels: int
    grey: bool
    aligned: bool


def view_of(loaded: LoadedSystem) -> View:
    """The view of a trained run."""
    lake = Lake.open(job.load(loaded.directory).lake)
    alignment = lake.table["alignment"][0].as_py()
    return View(
        lake_pixels=lake.manifest.image_size,
        crop_pixels=loaded.run.data.image_size,
        grey=loaded.run.data.grey or lake.manifest.channels == 1,
        aligned=alignment != "none",
    )


def draw(
    view: View,
    seed: int,
    subject_N: np.ndarray,
    take_N: np.ndarray,
    class_N: np.ndarray,
    intensity_N: np.ndarray,
) -> Faces:
    """Draws faces and places them as an ingest would."""
    drawing = drawn.draw(
        subjects=subject_N.tolist(),
        takes=take_N.tolist(),
        expressions=[CLASSES[index] for index in class_N],
        intensities=intensity_N.tolist(),
        seed=seed,
        size=DRAWN_PIXELS,
    )
    side = view.lake_pixels
    placed = np.empty((len(subject_N), side, side, 3), np.uint8)
    for index, image_HW3 in enumerate(drawing.images_BHWC):
        points_L3 = np.pad(drawing.landmarks_BL2[index], ((0, 0), (0, 1)), constant_values=1.0)
        if view.aligned:
            face = placed_by(image_HW3, points_L3, side, alignment="corpus", confidence=1.0)
        else:
            face = as_delivered(image_HW3, side=side, landmarks_L3=points_L3)
        placed[index] = face.image_SS3
    faces_NCHW = torch.from_numpy(placed).permute(0, 3, 1, 2)
    return Faces(
        faces_NCHW=centre_crop(faces_NCHW, view.crop_pixels, grey=view.grey),
        class_N=class_N,
        intensity_N=intensity_N.astype(np.float32),
        subject_N=subject_N,
        take_N=take_N,
    )


def judge_faces(view: View) -> Faces:
    """The judges' faces: every class equally often, intensities uniform in 0 to 1."""
    subject_N = np.repeat(np.arange(JUDGE_SUBJECTS), JUDGE_FACES)
    take_N = np.tile(np.arange(JUDGE_FACES), JUDGE_SUBJECTS)
    class_N = (subject_N + take_N) % len(CLASSES)
    intensity_N = np.random.default_rng(JUDGE_SEED).uniform(0, 1, len(subject_N))
    intensity_N[class_N == NEUTRAL] = 0
    return draw(view, JUDGE_SEED, subject_N, take_N, class_N, intensity_N)


def test_faces(view: View) -> Faces:
    """The faces that are edited, and those that their subjects are known by."""
    subject_N = np.repeat(np.arange(TEST_SUBJECTS), TEST_FACES)
    take_N = np.tile(np.arange(TEST_FACES), TEST_SUBJECTS)
    class_N = (subject_N + take_N) % len(CLASSES)
    intensity_N = np.random.default_rng(TEST_SEED).uniform(*drawn.INTENSITY_RANGE, len(subject_N))
    intensity_N[class_N == NEUTRAL] = 0
    return draw(view, TEST_SEED, subject_N, take_N, class_N, intensity_N)


class JudgeNetwork(nn.Module):
    """Seven 3x3 convolutions with batch norm, global average, one linear layer."""

    def __init__(self, channels: int, num_out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, width in enumerate((16, 32, 64, 96)):
            steps = ((channels, 2 if index else 1), *([(width, 1)] if index else []))
            for num_in, stride in steps:
                layers += [nn.Conv2d(num_in, width, 3, stride, 1, bias=False)]
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        self.trunk, self.head = nn.Sequential(*layers), nn.Linear(channels, num_out)

    def embed(self, faces_BCHW: Tensor) -> Tensor:
        """Unit features [B, 96]."""
        return functional.normalize(self.trunk(faces_BCHW).mean((2, 3)), dim=1)

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """[B, num_out]."""
        return self.head(self.trunk(faces_BCHW).mean((2, 3)))


def train_judge(kind: str, faces: Faces) -> JudgeNetwork:
    """One judge, seeded: AdamW, one cycle; faces mirrored, shifted, lit and blurred."""
    clear_N = (faces.intensity_N >= 0.4) | (faces.class_N == NEUTRAL)
    rows_N = np.flatnonzero(clear_N) if kind == "recogniser" else np.arange(len(clear_N))
    num_out = JUDGE_SUBJECTS if kind == "identity" else len(CLASSES)
    torch.manual_seed(JUDGE_SEED)
    network = JudgeNetwork(faces.faces_NCHW.shape[1], num_out)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    batch, epochs = 64, EPOCHS[kind]
    steps = epochs * (len(rows_N) // batch)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    rng = np.random.default_rng(JUDGE_SEED)
    for _ in range(epochs):
        order = rng.permutation(rows_N)
        for start in range(0, len(order) - batch + 1, batch):
            index = order[start : start + batch]
            loss = judge_loss(kind, network, varied(faces.faces_NCHW[index], rng), faces, index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return network.eval()


def judge_loss(
    kind: str, network: JudgeNetwork, faces_BCHW: Tensor, faces: Faces, index: np.ndarray
) -> Tensor:
    """Cross-entropy of classes, squared error of intensities, or cosine margin of subjects."""
    class_B = torch.from_numpy(faces.class_N[index])
    if kind == "recogniser":
        return functional.cross_entropy(network(faces_BCHW), class_B, label_smoothing=0.05)
    if kind == "regressor":
        own_BK = functional.one_hot(class_B, len(CLASSES)).float()
        target_BK = own_BK * torch.from_numpy(faces.intensity_N[index])[:, None]
        return 8 * functional.mse_loss(network(faces_BCHW), target_BK)
    subject_B = torch.from_numpy(faces.subject_N[index])
    cosine_BS = network.embed(faces_BCHW) @ functional.normalize(network.head.weight, dim=1).T
    own_BS = functional.one_hot(subject_B, JUDGE_SUBJECTS)
    return functional.cross_entropy(20 * (cosine_BS - 0.2 * own_BS), subject_B)


def varied(faces_BCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirrored, shifted by up to 3 pixels, lit, blurred: each face by its own numbers."""

    def draws(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (len(faces_BCHW), 1, 1, 1))).float()

    mirrored = torch.where(draws(0, 1) < 0.5, faces_BCHW.flip(-1), faces_BCHW)
    shift_BHW2 = torch.cat([draws(-3, 3), draws(-3, 3)], dim=3) * (2 / faces_BCHW.shape[-1])
    same_B23 = torch.eye(2, 3).expand(len(faces_BCHW), 2, 3)
    grid = functional.affine_grid(same_B23, list(faces_BCHW.shape), align_corners=False)
    moved = functional.grid_sample(
        mirrored, grid + shift_BHW2, padding_mode="border", align_corners=False
    )
    lit = moved * draws(0.8, 1.2) + draws(-0.15, 0.15)
    edge = functional.pad(lit, (1, 1, 1, 1), mode="replicate")
    blur = draws(0, 1) * (draws(0, 1) < 0.4)
    return lit * (1 - blur) + functional.avg_pool2d(edge, 3, 1) * blur


def judges(view: View, folder: Path) -> dict[str, JudgeNetwork]:
    """The three judges for a view, trained once and kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, JudgeNetwork] = {}
    faces: Faces | None = None
    shape = f"{view.lake_pixels}-{view.crop_pixels}-{'grey' if view.grey else 'colour'}"
    for kind in EPOCHS:
        path = folder / f"{kind}-{shape}{'' if view.aligned else '-delivered'}.safetensors"
        if not path.is_file():
            started = time.perf_counter()
            faces = faces or judge_faces(view)
            draft = path.with_suffix(f".{os.getpid()}")
            save_file(train_judge(kind, faces).state_dict(), draft)
            os.replace(draft, path)
            print(f"{kind} trained in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        num_out = JUDGE_SUBJECTS if kind == "identity" else len(CLASSES)
        made[kind] = JudgeNetwork(1 if view.grey else 3, num_out)
        made[kind].load_state_dict(load_file(path))
        made[kind].eval()
    return made


def edit_with(loaded: LoadedSystem, faces: Faces) -> Edit:
    """A run's own way to edit the test faces."""
    index_of = {expression: index for index, expression in enumerate(loaded.info.classes)}

    def edit(rows_B: np.ndarray, target: int, intensity: float) -> Tensor:
        rows = torch.from_numpy(rows_B)
        own_B = torch.tensor([index_of.get(CLASSES[index], 0) for index in faces.class_N[rows_B]])
        told = "intensity" in loaded.spec.capabilities
        batch = FaceBatch(
            faces_BCHW=faces.faces_NCHW[rows],
            expression_B=own_B,
            target_expression_B=torch.full_like(own_B, index_of[CLASSES[target]]),
            subject_B=torch.full_like(rows, -1),
            row_B=rows,
            key_B=rows,
            synthetic_B=torch.zeros(len(rows), dtype=torch.bool),
            target_intensity_B=torch.full((len(rows),), intensity) if told else None,
        )
        made = loaded.system.predict(batch).images_BCHW
        assert made is not None
        return made.float()

    return edit


def truth(view: View, faces: Faces) -> Edit:
    """What a perfect system would do: the same subject in the same sitting, drawn anew."""

    def edit(rows_B: np.ndarray, target: int, intensity: float) -> Tensor:
        return draw(
            view,
            TEST_SEED,
            faces.subject_N[rows_B],
            faces.take_N[rows_B],
            np.full(len(rows_B), target),
            np.full(len(rows_B), 0.0 if target == NEUTRAL else intensity),
        ).faces_NCHW

    return edit


@torch.no_grad()
def score(
    edit: Edit, faces: Faces, by: dict[str, JudgeNetwork], targets: list[int], *, rises: bool = True
) -> dict:
    """The three figures of one way to edit, over the targets; `rises` where it has intensity."""
    first_N = faces.take_N < EDITED_FACES
    rows_B, gallery_N = (
        np.flatnonzero(first_N),
        np.flatnonzero(faces.take_N >= TEST_FACES - GALLERY_FACES),
    )
    known_ND = by["identity"].embed(faces.faces_NCHW[gallery_N])
    known_SD = functional.normalize(known_ND.view(TEST_SUBJECTS, GALLERY_FACES, -1).mean(1), dim=1)
    read, own, correlations, levels = {}, [], [], []
    for target in targets:
        made = edit(rows_B, target, 1.0)
        logits_BK = by["recogniser"](made)[:, targets]
        read[str(CLASSES[target])] = float(
            (logits_BK.argmax(1) == targets.index(target)).float().mean()
        )
        nearest_B = (by["identity"].embed(made) @ known_SD.T).argmax(1).numpy()
        own.append(float((nearest_B == faces.subject_N[rows_B]).mean()))
        if target != NEUTRAL and rises:
            rising = [by["regressor"](edit(rows_B, target, level))[:, target] for level in LEVELS]
            measured_BL = torch.stack(rising, dim=1).numpy()
            correlations += [spearmanr(LEVELS, row)[0] for row in measured_BL]
            levels.append(measured_BL.mean(0))
    figures = {
        "edit_accuracy": round(float(np.mean(list(read.values()))), 4),
        "edit_accuracy_by_class": {name: round(value, 3) for name, value in read.items()},
        "identity_rank_1": round(float(np.mean(own)), 4),
    }
    if correlations:
        figures["intensity_correlation"] = round(float(np.nanmedian(correlations)), 4)
        figures["mean_measured_by_level"] = np.mean(levels, axis=0).round(3).tolist()
    return figures


def main(arguments: list[str]) -> None:
    """Scores the runs and writes or prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--judges", type=Path, default=Path("mien-home/judges"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    result = {
        "method": " ".join(__doc__.split("Method. ")[1].split("\n\n")[0].split()),
        "command": f"python -m benchmarks.drawn_systems {' '.join(options.runs)}",
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),
        "hardware": {"cores": os.cpu_count(), "machine": platform.machine()},
        "torch": torch.__version__,
        "runs": [],
    }
    for run in options.runs:
        loaded = load_system(run)
        if "synthesise" not in loaded.spec.capabilities:
            raise ValueError(f"run {run} trained {loaded.spec.name}, which makes no faces")
        view = view_of(loaded)
        by, faces = judges(view, options.judges), test_faces(view)
        targets = [CLASSES.index(expression) for expression in loaded.info.classes]
        rises = "intensity" in loaded.spec.capabilities
        result["runs"].append(
            {
                "run": loaded.directory.name,
                "system": f"{loaded.run.system_name}.{loaded.run.recipe}",
                **score(edit_with(loaded, faces), faces, by, targets, rises=rises),
                "drawn_truth": score(truth(view, faces), faces, by, targets),
            }
        )
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
