"""What a trained run says of the test faces of its fold, counted subject by subject.

Shapes: B faces, H height, W width, A attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

Change = Callable[[Any], Any]
"""What is done to a test batch (a `FaceBatch`)."""


def hidden_half(batch: Any, half: str) -> Any:
    """Half of every face in black, as behind a headset or a scarf."""
    from trainer.nets.cover import covered, half_mask

    faces_BCHW = batch.faces_BCHW
    mask_HW = half_mask(half, faces_BCHW.shape[-1], 0.5, faces_BCHW.device)  # type: ignore[arg-type]
    return covered(batch, mask_HW, -1.0)


def hidden_block(batch: Any, size: float) -> Any:
    """A grey block over every face, placed by the face's key; its landmarks lose their score."""
    from trainer.nets.cover import block_masks, covered
    from trainer.noise import keyed_uniform

    place_B2 = keyed_uniform(batch.key_B, "claims block", 2)
    return covered(batch, block_masks(place_B2, batch.faces_BCHW.shape[-1], size), 0.0)


def confusions(
    directory: Path, lake_path: Path, fold: str, change: Change | None = None
) -> np.ndarray:
    """One confusion matrix for each test subject of a fold, subjects in sorted order.

    Of classes, or of attributes: there or not, all attributes together. Of edits: the class that
    was asked for and the class that is read.
    """
    from data_service.lakes.lake import Lake
    from trainer.restore import load_system
    from trainer.scorecard.evaluate import predict_rows
    from trainer.world import World

    loaded, lake = load_system(directory), Lake.open(lake_path)
    train_rows, rows = parted(loaded, lake, fold)
    if "recognise" not in loaded.spec.capabilities and "synthesise" in loaded.spec.capabilities:
        return edit_confusions(loaded, lake, train_rows, rows[::4])
    if "attributes" in loaded.spec.capabilities:
        return attribute_confusions(loaded, lake, rows, change)
    found = predict_rows(
        loaded.system, lake, rows, loaded.run, loaded.info, World.alone(), change=change
    )
    return found.confusions()


def parted(loaded: Any, lake: Any, fold: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a fold's training and test subjects."""
    from trainer import feed

    own = feed.prepare(loaded.run, loaded.spec, lake, fold).fold
    return np.asarray(own.train_rows), np.asarray(own.test_rows)


def edit_confusions(loaded: Any, lake: Any, train_rows: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each subject how often edits to a class are read as which class."""
    from trainer.scorecard.evaluate import evaluation_batch, labels_of, subjects_of
    from trainer.scorecard.judge import expression_judge
    from trainer.scorecard.statistics import confusion_by_subject

    run, info = loaded.run, loaded.info
    judge = expression_judge(lake, train_rows, run, info, seed=run.seed + 1)
    labels_N = labels_of(lake, rows, info)
    batch = evaluation_batch(lake, rows, labels_N, run, info)
    subjects = subjects_of(lake, rows)
    asked, read, whose = [], [], []
    for target in range(len(info.classes)):
        other = np.flatnonzero(labels_N != target)
        part = batch.map(lambda tensor, other=other: tensor[torch.from_numpy(other)])
        aim_B = torch.full_like(part.target_expression_B, target)
        with torch.inference_mode():
            edited = loaded.system.predict(replace(part, target_expression_B=aim_B)).images_BCHW
            read.append(judge(edited.float()).argmax(1).numpy())
        asked.append(aim_B.numpy())
        whose.append(subjects[other])
    asked_M, read_M, whose_M = (np.concatenate(parts) for parts in (asked, read, whose))
    return confusion_by_subject(asked_M, read_M, whose_M, len(info.classes))


def attribute_confusions(
    loaded: Any, lake: Any, rows: np.ndarray, change: Change | None
) -> np.ndarray:
    """For each subject how often attributes are there (1) or not (0), and are said to be."""
    from trainer.scorecard.evaluate import evaluation_batch, labels_of, subjects_of
    from trainer.scorecard.statistics import confusion_by_subject

    batch = evaluation_batch(
        lake, rows, labels_of(lake, rows, loaded.info), loaded.run, loaded.info
    )
    batch = batch if change is None else change(batch)
    assert batch.attributes_BA is not None
    with torch.inference_mode():
        said = [
            loaded.system.predict(batch.slice(start, start + 64)).attributes_BA > 0
            for start in range(0, len(batch), 64)
        ]
    known_BA = torch.isfinite(batch.attributes_BA).numpy()
    subjects = subjects_of(lake, rows)
    return confusion_by_subject(
        (batch.attributes_BA.numpy() > 0)[known_BA].astype(np.int64),
        torch.cat(said).numpy()[known_BA].astype(np.int64),
        np.broadcast_to(subjects[:, None], known_BA.shape)[known_BA],
        2,
    )
