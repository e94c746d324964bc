"""What does not fit is said in one line before anything is spent; what is spoilt moves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from cluster.resources import Capacity
from data_service.schema import DatasetInfo, Expression, FaceBatch, Prediction
from trainer import catalog, feed
from trainer.config import RunConfig, weight
from trainer.crossval import crossval
from trainer.loop import begin, fit
from trainer.overrides import with_overrides
from trainer.restore import start_from
from trainer.schedules import Schedule
from trainer.scorecard import evaluate, judge
from trainer.system import OptimizerConfig, Player, Stage, StepContext, System, Turn
from trainer.training import NonFiniteTermError
from trainer.world import World

CLASSES = (Expression.ANGER, Expression.FEAR, Expression.NEUTRAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Two terms, each of one player."""

    fine: Schedule = weight(1.0)
    spoilt: Schedule = weight(1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Nothing but the weights."""

    weights: Weights = field(default_factory=Weights)


class Spoilt(System):
    """Two players in one group; the term of the second is not finite from the second step on."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.nets = {name: nn.Linear(4, 3) for name in ("fine", "spoilt")}

    def players(self) -> tuple[Player, ...]:
        config = OptimizerConfig(learning_rate=0.1)
        return tuple(
            Player(name=name, module=net, optimizer=config) for name, net in self.nets.items()
        )

    def stages(self) -> tuple[Stage, ...]:
        turns = tuple(Turn(player=name, terms=(name,), loss=self.loss) for name in self.nets)
        return (Stage(name="only", images=32, turns=(turns,)),)

    def loss(self, ctx: StepContext) -> Mapping[str, Tensor]:
        (name,) = ctx.wanted
        logits_BK = self.nets[name](ctx.batch.faces_BCHW.flatten(1))
        term = functional.cross_entropy(logits_BK, ctx.batch.expression_B)
        late = name == "spoilt" and ctx.progress.step > 0
        return {name: term * self.value if late else term}

    def predict(self, batch: FaceBatch) -> Prediction:
        return Prediction()


def batch() -> FaceBatch:
    rows = torch.arange(8)
    return FaceBatch(
        faces_BCHW=torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
        expression_B=rows % 3,
        target_expression_B=rows % 3,
        subject_B=rows,
        row_B=rows,
        key_B=rows,
        synthetic_B=torch.zeros(8, dtype=torch.bool),
    )


def content(system: Spoilt) -> list[Tensor]:
    return [value.clone() for net in system.nets.values() for value in net.parameters()]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_stops_before_any_optimiser_moves(value: float) -> None:
    system = Spoilt(value)
    run = RunConfig(system_name="spoilt", recipe="tiny", system=Config())
    run = replace(run, data=replace(run.data, global_batch_images=8))
    steps = fit(begin(run, system, World.alone()), iter(lambda: batch(), None))
    next(steps)
    before = content(system)
    with pytest.raises(NonFiniteTermError) as found:
        next(steps)
    told = "stage only, turn of spoilt, after 8 images: not finite: spoilt"
    assert str(found.value) == told
    assert all(torch.equal(*pair) for pair in zip(before, content(system), strict=True))


class FewOfOne:
    """Twelve subjects with angry and neutral faces; one face of fear, of the first subject."""

    def __init__(self) -> None:
        names = ["anger", "neutral"] * 24 + ["fear"]
        subjects = [f"s{index // 4:02}" for index in range(48)] + ["s00"]
        self.table = pa.table(
            {
                "expression": names,
                "subject": subjects,
                "sample_id": [f"{index:04}" for index in range(49)],
            }
        )
        generator = np.random.default_rng(0)
        self.faces = generator.integers(0, 256, size=(49, 48, 48, 3), dtype=np.uint8)
        self.mapped = SimpleNamespace(expect=len)
        self.hash, self.path = "few", Path("few")
        counts = {"anger": 24, "neutral": 24, "fear": 1}
        self.manifest = SimpleNamespace(classes=counts, channels=3, image_size=48)

    def require_size(self, side: int) -> None:
        """Large enough."""


RUN = catalog.recipe("baseline.tiny")
WITHOUT_FEAR = replace(RUN, data=replace(RUN.data, classes=(CLASSES[0], CLASSES[2])))


def test_a_fold_that_holds_out_the_only_face_of_a_class_says_so() -> None:
    lake: Any = FewOfOne()
    folds = [f"{index}/4" for index in range(1, 5)]
    told: dict[str, str] = {}
    for fold in folds:
        try:
            feed.prepare(RUN, feed.spec_of(RUN), lake, fold)
        except ValueError as error:
            told[fold] = str(error)
    assert 1 <= len(told) <= 2, "tested in one fold, validating in another at most"
    for fold, text in told.items():
        assert text.startswith(f"fold {fold} trains on no face of fear: ")
        assert "--set data.classes=anger,neutral" in text
    for fold in folds:
        assert feed.prepare(WITHOUT_FEAR, feed.spec_of(RUN), lake, fold).info.classes == (
            CLASSES[0],
            CLASSES[2],
        )


def test_crossval_says_so_before_anything_starts(monkeypatch: pytest.MonkeyPatch, own_home) -> None:
    monkeypatch.setattr("trainer.crossval.Lake.open", lambda path: FewOfOne())
    with pytest.raises(ValueError, match="trains on no face of fear"):
        crossval(RUN, Path("few"), 4)
    assert not own_home.exists()


@pytest.mark.parametrize(
    ("settings", "parallel", "says"),
    [
        ({"engine.workers": 2}, 2, "parallel is 2, but folds of several workers or of a ZeRO"),
        ({"engine.zero": 1}, 2, "valid: 1, or engine.workers=1 and engine.zero=none"),
        ({}, 99, "99 parallel runs of 1 worker do not fit"),
        ({"engine.workers": 32}, 1, "32 workers do not fit"),
    ],
)
def test_crossval_counts_its_workers_before_anything_starts(
    settings: dict[str, int],
    parallel: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    own_home: Path,
) -> None:
    monkeypatch.setattr("trainer.crossval.Lake.open", lambda path: FewOfOne())
    monkeypatch.setattr("trainer.crossval.local_capacity", lambda: Capacity(cpus=4))
    with pytest.raises(ValueError, match=says):
        crossval(with_overrides(WITHOUT_FEAR, settings), Path("few"), 4, parallel=parallel)
    assert not own_home.exists()


def test_crossval_builds_the_system_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    monkeypatch.setattr("trainer.crossval.Lake.open", lambda path: FewOfOne())
    lost = with_overrides(
        catalog.recipe("fersnet.tiny"),
        {"data.classes": "anger,neutral", "system.identity_network": "nobody"},
    )
    with pytest.raises(ValueError, match="nobody"):
        crossval(lost, Path("few"), 4)
    assert not own_home.exists()


def test_a_class_with_one_face_trains_a_judge_and_counts_once() -> None:
    lake: Any = FewOfOne()
    info = DatasetInfo(classes=CLASSES, image_size=48, channels=3, subjects=12)
    found = judge.expression_judge(lake, np.arange(49), RUN, info, seed=0, images=32)
    assert found.head.out_features == 3
    card = evaluate.scorecard(
        evaluate.Predictions(
            rows=np.arange(49),
            labels=evaluate.labels_of(lake, np.arange(49), info),
            logits=np.eye(3, dtype=np.float32)[[0, 2] * 24 + [0]],
            subjects=evaluate.subjects_of(lake, np.arange(49)),
        ),
        CLASSES,
    )
    assert card["per_class"] == {"anger": 1.0, "fear": 0.0, "neutral": 1.0}
    assert card["macro_recall"]["value"] == pytest.approx(2 / 3)
    assert all(np.isfinite(card["macro_recall"][bound]) for bound in ("low", "high"))


def test_a_test_fold_without_a_class_averages_over_those_it_has() -> None:
    rows = np.array([0, 1, 4, 5])
    lake: Any = FewOfOne()
    info = DatasetInfo(classes=CLASSES, image_size=48, channels=3, subjects=12)
    card = evaluate.scorecard(
        evaluate.Predictions(
            rows=rows,
            labels=evaluate.labels_of(lake, rows, info),
            logits=np.eye(3, dtype=np.float32)[[0, 1, 0, 2]],
            subjects=evaluate.subjects_of(lake, rows),
        ),
        CLASSES,
    )
    assert card["per_class"] == {"anger": 1.0, "fear": None, "neutral": 0.5}
    assert card["macro_recall"]["value"] == 0.75


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    tensors = {"player/recogniser/nothing.weight": torch.zeros(3)}
    tensors["player/net/trunk.0.weight"] = torch.zeros(7, 7)
    save_file(tensors, tmp_path / "weights.safetensors")
    info = DatasetInfo(
        classes=CLASSES, image_size=48, channels=3, subjects=12, class_images=(1, 1, 1)
    )
    system = catalog.load("baseline").build(RUN.system, info)
    before = {name: value.clone() for name, value in system.players()[0].module.named_parameters()}
    own: Any = SimpleNamespace(
        init=tmp_path / "weights.safetensors", init_only="*", init_map=(), run=RUN
    )
    with pytest.raises(ValueError, match=r"nothing in .* fits baseline under the pattern '\*'"):
        start_from(own, system)
    after = dict(system.players()[0].module.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
