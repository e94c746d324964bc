"""Cards of systems whose answers are known: a perfect editor, one that does nothing, one face."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from data_service.schema import DatasetInfo, Expression, FaceBatch, Prediction
from tests.made_runs import shorten_judges
from trainer.config import DataConfig, EvaluationConfig
from trainer.scorecard import evaluate, gain, measures
from trainer.scorecard.attribute_scores import attribute_card
from trainer.scorecard.evaluate import predict_rows
from trainer.scorecard.examinee import Examinee
from trainer.scorecard.robustness import occlusion_card, pose_card
from trainer.scorecard.scoring import METRICS, validation_metrics
from trainer.scorecard.synthesis_scores import synthesis_card
from trainer.system import OptimizerConfig, Player, System
from trainer.world import World

CLASSES = (Expression.ANGER, Expression.HAPPINESS, Expression.NEUTRAL)
SIDE, HALF, COUNT, SUBJECTS = 16, 9, 144, 12
RUN = SimpleNamespace(
    data=DataConfig(image_size=SIDE), evaluation=EvaluationConfig(flip=False), seed=0
)
INFO = DatasetInfo(
    classes=CLASSES, image_size=SIDE, channels=3, subjects=8, attributes=("bright", "never")
)


def paint(subject: int, label: int, level: float = 1.0) -> np.ndarray:
    """A face whose lower half tells the class and whose upper half the subject."""
    face = np.full((SIDE, SIDE, 3), 128, np.uint8)
    face[:HALF] = [60 + 10 * subject, 200 - 10 * subject, 40 + 90 * (subject % 2)]
    face[HALF:, :, label] = 128 + int(127 * level)
    face[HALF + 2 * label :: 3, 2 * label :: 4, 2] = 0
    return face


@pytest.fixture
def lake() -> Any:
    noise = np.random.default_rng(0).integers(-12, 12, size=(COUNT, SIDE, SIDE, 3))
    subject = np.arange(COUNT) // (COUNT // SUBJECTS)
    label = np.arange(COUNT) % 3
    faces = np.stack([paint(s, k) for s, k in zip(subject, label, strict=True)]) + noise
    attributes = [
        [("bright", float(s > 5)), ("never", float("nan")), ("yaw", 10.0 * k - 20)]
        for s, k in zip(subject, label, strict=True)
    ]
    table = pa.table(
        {
            "expression": [str(CLASSES[k]) for k in label],
            "subject": [f"s{s:02}" for s in subject],
            "attributes": pa.array(attributes, pa.map_(pa.string(), pa.float32())),
        }
    )
    return SimpleNamespace(
        table=table,
        faces=np.clip(faces, 0, 255).astype(np.uint8),
        mapped=SimpleNamespace(expect=len),
        hash="painted",
        manifest=SimpleNamespace(image_size=SIDE),
    )


class Editor(System):
    """Paints what is asked, at the intensity asked; or gives the face back; or one face for all."""

    def __init__(self, kind: str) -> None:
        self.kind, self.net = kind, nn.Identity()

    def players(self):
        return (Player(name="net", module=self.net, optimizer=OptimizerConfig()),)

    def stages(self):
        return ()

    def predict(self, batch: FaceBatch) -> Prediction:
        faces_BCHW = batch.faces_BCHW
        if self.kind == "perfect":
            subject_B = (batch.row_B // (COUNT // SUBJECTS)).tolist()
            level_B = [1.0] * len(batch)
            if batch.target_intensity_B is not None:
                level_B = batch.target_intensity_B.tolist()
            target_B = batch.target_expression_B.tolist()
            painted = [paint(*one) for one in zip(subject_B, target_B, level_B, strict=True)]
            faces_BCHW = torch.from_numpy(np.stack(painted)).permute(0, 3, 1, 2) / 127.5 - 1
        if self.kind == "collapsed":
            faces_BCHW = torch.zeros_like(faces_BCHW)
        below_BK = batch.faces_BCHW[:, :, HALF:].mean((2, 3))
        bright_BA = batch.faces_BCHW[:, :1, :HALF].mean((2, 3)) + 0.09
        return Prediction(
            features_BD=batch.faces_BCHW[:, :, :HALF].mean((2, 3)) - 0.1,
            images_BCHW=faces_BCHW,
            logits_BK=below_BK * 20,
            attributes_BA=bright_BA.expand(-1, 2),
        )


def examinee(lake: Any, kind: str = "perfect", *can: str) -> Examinee:
    rows = np.arange(COUNT)
    return Examinee(
        system=Editor(kind),
        spec=SimpleNamespace(capabilities=frozenset(can or ("synthesise", "recognise"))),
        run=RUN,
        info=INFO,
        lake=lake,
        rows_N=rows[96:],
        home_lake=lake,
        train_rows_N=rows[:96],
    )


@pytest.fixture(autouse=True)
def brief_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painted classes are learnt in a few steps."""
    shorten_judges(monkeypatch, 640)


def test_a_perfect_editor_and_its_opposites(lake: Any) -> None:
    can = ("synthesise", "intensity")
    cards = {
        kind: synthesis_card(examinee(lake, kind, *can), 48)
        for kind in ("perfect", "idle", "collapsed")
    }
    assert all(json.loads(json.dumps(card)) == card for card in cards.values())
    perfect, idle, collapsed = cards.values()
    assert (perfect["num_faces"], perfect["num_edits"], perfect["num_subjects"]) == (48, 96, 4)
    assert perfect["edit_accuracy"]["value"] > 0.9 > 0.2 > idle["edit_accuracy"]["value"]
    assert perfect["judge_accuracy"]["value"] > 0.9
    assert perfect["identity_rank_1"]["value"] > idle["identity_rank_1_real"]["value"] - 0.2
    assert idle["identity_similarity"]["value"] == pytest.approx(1, abs=1e-5)
    assert idle["reconstruction_error"]["value"] == pytest.approx(0, abs=1e-6)
    assert collapsed["diversity"]["value"] < 0.05
    assert idle["diversity"]["value"] == pytest.approx(1, abs=0.1)
    for name in ("kernel_distance", "frechet_distance"):
        assert collapsed[name]["value"] > 2 * perfect[name]["value"]
    assert perfect["intensity_correlation"]["value"] > 0.8
    assert idle["intensity_correlation"]["value"] == 0
    for figure in ("edit_accuracy", "kernel_distance", "identity_similarity"):
        assert perfect[figure]["low"] <= perfect[figure]["value"] <= perfect[figure]["high"]


def test_what_a_search_may_aim_at_ranks_editors_as_the_card_does(lake: Any) -> None:
    def validated(kind: str, *, identity: bool = True) -> dict[str, float]:
        run = SimpleNamespace(
            data=RUN.data, evaluation=EvaluationConfig(flip=False, identity=identity), seed=0
        )
        training: Any = SimpleNamespace(
            system=Editor(kind), run=run, world=World.alone(), moving=None
        )
        spec: Any = SimpleNamespace(capabilities=frozenset({"synthesise"}))
        rows = np.arange(COUNT)
        fold = SimpleNamespace(train_rows=rows[:96], validation_rows=rows[96:])
        data: Any = SimpleNamespace(fold=fold, info=INFO)
        return validation_metrics(training, spec, data, lake, World.alone(), None)

    perfect, idle, collapsed = (validated(kind) for kind in ("perfect", "idle", "collapsed"))
    assert set(perfect) < set(METRICS)
    assert perfect["edit_accuracy"] > 0.9 > 0.2 > idle["edit_accuracy"]
    assert collapsed["kernel_distance"] > 2 * perfect["kernel_distance"]
    assert idle["identity_similarity"] == pytest.approx(1, abs=1e-5)
    assert collapsed["identity_similarity"] < perfect["identity_similarity"]
    card = synthesis_card(examinee(lake, "collapsed"), 48)
    assert card["kernel_distance"]["value"] == pytest.approx(collapsed["kernel_distance"])
    assert card["identity_similarity"]["value"] == pytest.approx(collapsed["identity_similarity"])
    assert "identity_similarity" not in validated("idle", identity=False)


def test_without_intensity_or_names_of_subjects_those_figures_are_none(lake: Any) -> None:
    lake.table = lake.table.set_column(1, "subject", pa.nulls(COUNT, pa.string()))
    card = synthesis_card(examinee(lake), 12)
    assert card["intensity_correlation"] is None and card["identity_rank_1"] is None
    assert card["num_subjects"] == 12


def test_occlusions_cost_what_they_hide(lake: Any) -> None:
    one = examinee(lake)
    clear = predict_rows(one.system, lake, one.rows_N, RUN, INFO, World.alone())
    card = occlusion_card(one, clear)
    assert card["lower"]["accuracy"]["value"] < 0.5 <= card["lower"]["lost"]["value"]
    assert card["upper"]["lost"]["value"] == 0
    assert json.loads(json.dumps(card)) == card


def test_poses_are_grouped_by_yaw(lake: Any) -> None:
    one = examinee(lake)
    clear = predict_rows(one.system, lake, one.rows_N, RUN, INFO, World.alone())
    card = pose_card(one, clear)
    assert card is not None
    assert {name: group["num_faces"] for name, group in card.items()} == {
        "yaw 0 to 15": 32,
        "yaw 15 to 30": 16,
    }
    lake.table = lake.table.drop_columns("attributes").append_column(
        "attributes", pa.nulls(COUNT, pa.map_(pa.string(), pa.float32()))
    )
    assert pose_card(one, clear) is None


def test_attributes_each_and_their_mean(lake: Any) -> None:
    card = attribute_card(examinee(lake, "idle", "attributes"))
    own = card["per_attribute"]["bright"]["accuracy"]
    assert own["value"] == card["accuracy"]["value"] > 0.5
    assert list(card["per_attribute"]) == ["bright"]
    assert json.loads(json.dumps(card)) == card


def tell_attributes(lake: Any, attributes: list[Any]) -> None:
    """The lake with these in the place of its own."""
    told = pa.array(attributes, pa.map_(pa.string(), pa.float32()))
    lake.table = lake.table.drop_columns("attributes").append_column("attributes", told)


def test_an_attribute_above_zero_is_there_as_in_training(lake: Any) -> None:
    """The faces under test are all bright."""
    for value, right in ((0.3, 1.0), (1.0, 1.0), (0.0, 0.0), (-1.0, 0.0)):
        tell_attributes(lake, [[("bright", value)]] * COUNT)
        card = attribute_card(examinee(lake, "idle", "attributes"))
        assert card is not None and card["accuracy"]["value"] == right


def test_an_attribute_that_is_known_of_one_subject_has_an_interval(lake: Any) -> None:
    of_one = [[("bright", 1.0)] if 96 <= row < 108 else None for row in range(COUNT)]
    tell_attributes(lake, of_one)
    card = attribute_card(examinee(lake, "idle", "attributes"))
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_where_no_attribute_is_known_there_is_no_card(lake: Any) -> None:
    tell_attributes(lake, [None] * COUNT)
    one = examinee(lake, "idle", "attributes")
    assert attribute_card(one) is None and measures.measure(one, None) == {}


def test_a_system_that_needs_no_classes_is_examined_on_any_face(lake: Any) -> None:
    names = pa.array(["surprise", None, "anger"] * (COUNT // 3))
    lake.table = lake.table.drop_columns("expression").append_column("expression", names)
    rows = np.arange(3)
    one = examinee(lake, "idle", "attributes")
    assert one.labels(rows).tolist() == [-1, -1, 0]
    assert next(one.batches(rows)).expression_B.tolist() == [-1, -1, 0]
    with pytest.raises(ValueError, match="faces of None, surprise cannot be evaluated"):
        examinee(lake).labels(rows)


def test_faces_that_teach_give_a_gain_and_it_is_paired(lake: Any) -> None:
    card = gain.gain_card(examinee(lake), images=320)
    assert (card["num_real"], card["num_synthetic"], card["seeds"]) == (96, 96, 3)
    assert card["accuracy"]["low"] <= card["accuracy"]["value"] <= card["accuracy"]["high"]
    assert 0 <= card["accuracy"]["p"] <= 1


def test_the_gain_holds_a_batch_of_real_faces_at_most(lake: Any, monkeypatch) -> None:
    held, cut_out = [], evaluate.faces_of
    for module in (evaluate, gain):
        monkeypatch.setattr(
            module, "faces_of", lambda *given: held.append(len(given[1])) or cut_out(*given)
        )
    gain.gain_card(examinee(lake), images=64)
    assert 0 < max(held) <= 64


def test_real_faces_come_before_the_edits(lake: Any) -> None:
    one, made_MCHW = examinee(lake), torch.rand(5, 3, SIDE, SIDE)
    faces = gain._reader(one, made_MCHW)
    whole_NCHW = torch.cat([evaluate.faces_of(lake, one.train_rows_N, RUN), made_MCHW])
    for numbers in ([3, 98, 0, 96, 3], [100, 97], [7]):
        given_BCHW = faces(np.array(numbers))
        assert torch.equal(given_BCHW, whole_NCHW[torch.tensor(numbers)])


def test_what_a_system_cannot_is_not_measured(lake: Any) -> None:
    one = examinee(lake, "idle", "recognise")
    clear = predict_rows(one.system, lake, one.rows_N, RUN, INFO, World.alone())
    assert set(measures.measure(one, clear, "brief")) == {"pose"}
    assert set(measures.measure(one, clear, "full")) == {"pose", "occlusion"}
    assert set(measures.measure(examinee(lake, "idle", "attributes"), None)) == {"attributes"}


def test_who_tells_subjects_apart(lake: Any) -> None:
    one = examinee(lake, "idle", "identify")
    card = measures.measure(one, None)["identification"]
    assert card["rank_1"]["value"] == 1.0 and card["verification_auc"] > 0.9
    assert (card["num_faces"], card["num_subjects"]) == (48, 4)


def test_figures_by_path_for_mlflow() -> None:
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    cards = {"synthesis": {"edit_accuracy": interval, "diversity": None, "num_faces": 3}}
    assert measures.flat(cards) == {
        "synthesis/edit_accuracy": 0.5,
        "synthesis/edit_accuracy_low": 0.4,
        "synthesis/edit_accuracy_high": 0.6,
    }
