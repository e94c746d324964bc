"""What is measured on validation subjects while a run trains, by the system's capabilities.

Recognition: accuracy, macro_recall. Synthesis: reconstruction (mean absolute error of a face given
its own expression, in [0, 1]; lower is better), and edit_accuracy: the share of edited faces that
an independent judge, trained on the training subjects, reads as the target. Identity:
verification_auc. Attributes: attribute_accuracy, the mean over attributes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from data_service.lake import Lake
from trainer.attribute_scores import attribute_card
from trainer.evaluate import (
    evaluating,
    evaluation_batch,
    labels_of,
    predict_rows,
    scorecard,
    subjects_of,
)
from trainer.examinee import Examinee
from trainer.feed import TrainingData
from trainer.judge import expression_judge
from trainer.loop import Training
from trainer.nets.identity_source import verification_auc
from trainer.system import FaceBatch, SystemSpec
from trainer.world import World

METRICS = (
    *("accuracy", "macro_recall", "reconstruction", "edit_accuracy"),
    *("verification_auc", "attribute_accuracy"),
)
_EDITED_FACES = 64


def validation_metrics(
    training: Training, spec: SystemSpec, data: TrainingData, lake: Lake, world: World
) -> dict[str, float]:
    """The metrics of the validation subjects by name; every rank must call, all get the same."""
    rows_N = np.asarray(data.fold.validation_rows)
    found: dict[str, float] = {}
    if "recognise" in spec.capabilities and len(rows_N):
        predictions = predict_rows(training.system, lake, rows_N, training.run, data.info, world)
        card = scorecard(predictions, data.info.classes, num_resamples=1)
        found["accuracy"] = card["accuracy"]["value"]
        found["macro_recall"] = card["macro_recall"]["value"]
    if world.leads and "synthesise" in spec.capabilities:
        found |= _synthesis(training, data, lake, world)
    if world.leads and "identify" in spec.capabilities:
        found |= _identification(training, data, lake, world)
    if world.leads and "attributes" in spec.capabilities and len(rows_N):
        card = attribute_card(_examinee(training, spec, data, lake))
        found["attribute_accuracy"] = card["accuracy"]["value"]
    return world.broadcast_object(found)


def _examinee(training: Training, spec: SystemSpec, data: TrainingData, lake: Lake) -> Examinee:
    """The system as it stands, with the validation subjects."""
    return Examinee(
        system=training.system,
        spec=spec,
        run=training.run,
        info=data.info,
        lake=lake,
        rows_N=np.asarray(data.fold.validation_rows),
        home_lake=lake,
        train_rows_N=np.asarray(data.fold.train_rows),
        device=training.world.device,
    )


def _spread(rows_N: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly spread."""
    return rows_N[np.linspace(0, len(rows_N) - 1, min(count, len(rows_N))).astype(int)]


def _batch(training: Training, data: TrainingData, lake: Lake, rows_N: np.ndarray) -> FaceBatch:
    labels_N = labels_of(lake, rows_N, data.info)
    batch = evaluation_batch(lake, rows_N, labels_N, training.run, data.info)
    return batch.to(training.world.device)


@torch.no_grad()
def _synthesis(
    training: Training, data: TrainingData, lake: Lake, world: World
) -> dict[str, float]:
    rows_N = _spread(np.asarray(data.fold.validation_rows), _EDITED_FACES)
    if not len(rows_N):
        return {}
    judge = expression_judge(
        lake, data.fold.train_rows, training.run, data.info, seed=training.run.seed + 1
    )
    batch = _batch(training, data, lake, rows_N)
    read, asked = 0, 0
    with evaluating(training.system):
        own = training.system.predict(batch).images_BCHW
        assert own is not None
        for target in range(len(data.info.classes)):
            keep_B = batch.expression_B != target
            if not bool(keep_B.any()):
                continue
            part = batch.map(lambda tensor, keep_B=keep_B: tensor[keep_B])
            aim_B = torch.full_like(part.target_expression_B, target)
            edited = training.system.predict(replace(part, target_expression_B=aim_B)).images_BCHW
            assert edited is not None
            read += int((judge(edited.float().cpu()).argmax(1) == target).sum())
            asked += len(part)
    error = (own.clamp(-1, 1) - batch.faces_BCHW).abs().mean() / 2
    return {"reconstruction": float(error), "edit_accuracy": read / max(asked, 1)}


@torch.no_grad()
def _identification(
    training: Training, data: TrainingData, lake: Lake, world: World
) -> dict[str, float]:
    rows_N = _spread(np.asarray(data.fold.validation_rows), 512)
    if not len(rows_N):
        return {}
    with evaluating(training.system):
        features = [
            training.system.predict(_batch(training, data, lake, part)).features_BD
            for part in np.array_split(rows_N, max(len(rows_N) // 64, 1))
        ]
    features_ND = torch.cat([part for part in features if part is not None]).float().cpu().numpy()
    subjects_N = subjects_of(lake, rows_N)
    return {"verification_auc": verification_auc(features_ND, subjects_N, training.run.seed)}
