"""Teacher and students: what they see, what they learn, which teachers are refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data_service.schema import Expression
from tests.contract import batches as made_of
from tests.made_runs import finished
from trainer import catalog, restore
from trainer.overrides import with_overrides
from trainer.system import DataNeeds
from trainer.systems.occlusion_distillation import losses
from trainer.systems.occlusion_distillation.system import OcclusionDistillation


def built(info=made_of.INFO, **settings: object) -> OcclusionDistillation:
    run = with_overrides(catalog.recipe("occlusion_distillation.tiny"), settings)
    return catalog.load("occlusion_distillation").build(run.system, info)  # type: ignore[return-value]


def test_the_hidden_half_does_not_reach_the_answer() -> None:
    system = built()
    for player in system.players():
        player.module.eval()
    batch = made_of.make(DataNeeds(), made_of.INFO, 3, 0)
    other = batch.faces_BCHW.clone()
    other[:, :, :24] = other[:, :, :24].flip(0)
    with torch.no_grad():
        first = system.predict(batch).logits_BK
        same = system.predict(replace(batch, faces_BCHW=other)).logits_BK
        lower = system.predict(replace(batch, faces_BCHW=batch.faces_BCHW.flip(2))).logits_BK
    assert first is not None and same is not None and lower is not None
    assert torch.equal(first, same)
    assert not torch.allclose(first, lower)


def test_soft_outputs_agree_only_with_themselves() -> None:
    logits_BK = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    same = losses.soft_cross_entropy(logits_BK, logits_BK, 3.0)
    apart = losses.soft_cross_entropy(logits_BK, logits_BK.flip(1), 3.0)
    assert same.sum == pytest.approx(0.0, abs=1e-6) and apart.sum > 0.1


def test_a_triplet_costs_what_is_missing_to_its_margin() -> None:
    anchor, positive = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    negative = torch.tensor([[0.0, 3.0]])
    all_B = torch.tensor([True])
    assert losses.triplet(anchor, positive, negative, 0.2, all_B).sum == 0
    swapped = losses.triplet(anchor, negative, positive, 0.2, all_B)
    assert swapped.sum == pytest.approx(2.2)
    nobody = losses.triplet(anchor, negative, positive, 0.2, ~all_B)
    assert nobody.count == 0 and nobody.sum == 0


def with_run(monkeypatch: pytest.MonkeyPatch, system: Any, info=made_of.INFO) -> None:
    """Let every run be one of `system`."""
    loaded = SimpleNamespace(system=system, info=info, spec=SimpleNamespace(name="given"))
    monkeypatch.setattr(restore, "load_system", lambda run: loaded)


def test_a_teacher_is_taken_over_and_its_stage_left_out(monkeypatch) -> None:
    given = built()
    with_run(monkeypatch, given)
    taught = built(**{"system.teacher": "abc"})
    for name, value in given.teacher.state_dict().items():
        assert torch.equal(value, taught.teacher.state_dict()[name])
    assert taught.stages()[0].images == 0


def test_a_trained_student_needs_its_teachers_run_no_more(own_home: Path) -> None:
    run = catalog.recipe("occlusion_distillation.tiny")
    given = finished(run, made_of.INFO, "aaaa")
    student = with_overrides(run, {"system.teacher": "aaaa"})
    finished(student, made_of.INFO, "bbbb")
    expected = restore.load_system("aaaa").system.teacher.state_dict()  # type: ignore[attr-defined]
    shutil.rmtree(given)
    loaded = restore.load_system("bbbb")
    assert loaded.run == student
    for name, value in loaded.system.teacher.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(value, expected[name])


def test_a_teacher_of_another_shape_is_refused(monkeypatch, own_home: Path) -> None:
    with_run(monkeypatch, built(**{"system.network.widths": (8, 8)}))
    with pytest.raises(ValueError, match=r"teacher of another shape: trunk\.dense\.weight is"):
        built(**{"system.teacher": "abc"})
    classes = (Expression.FEAR, Expression.NEUTRAL, Expression.SADNESS)
    with_run(monkeypatch, built(), info=replace(made_of.INFO, classes=classes))
    with pytest.raises(ValueError, match="knows fear, neutral, sadness; this run has"):
        built(**{"system.teacher": "abc"})
    baseline = SimpleNamespace(players=tuple)
    with_run(monkeypatch, baseline)
    with pytest.raises(ValueError, match="is of given, which has no teacher"):
        built(**{"system.teacher": "abc"})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="there is no run"):
        built(**{"system.teacher": "abc"})


@pytest.mark.parametrize(("off", "reader"), [((), "soft"), (("label", "distillation"), "triplet")])
def test_a_classifier_that_never_learns_never_answers(off: tuple[str, ...], reader: str) -> None:
    weights = {f"system.weights.{term}": 0.0 for term in off}
    system = built(**{"system.joined_images": 0, **weights})
    assert system.joined is None
    assert "joined" not in {player.name for player in system.players()}
    for player in system.players():
        player.module.eval()
    batch = made_of.make(DataNeeds(), made_of.INFO, 3, 0)
    student = system.students[reader]
    with torch.no_grad():
        expected_BK = student.read(student(system._half(batch).faces_BCHW))
        logits_BK = system.predict(batch).logits_BK
    assert logits_BK is not None and torch.equal(logits_BK, expected_BK)


def test_students_that_play_need_images() -> None:
    with pytest.raises(ValueError, match=r"student_images is 0, so .*: system\.weights\.distill"):
        built(**{"system.student_images": 0})
    terms = ("label", "distillation", "triplet", "triplet_label")
    idle = {f"system.weights.{term}": 0.0 for term in terms}
    assert not built(**{"system.student_images": 0, **idle}).students


def test_vggf_embeds_small_and_published_sizes() -> None:
    from trainer.nets.vggf import VggF

    for side in (48, 128):
        network = VggF(image_size=side, width=0.03)
        assert network(torch.zeros(2, 1, side, side)).shape == (2, network.num_features)
