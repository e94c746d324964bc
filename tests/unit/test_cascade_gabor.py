"""The cascade: its questions, its choices, the Gabor filters, misfits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from data_service.schema import DatasetInfo, Expression
from trainer import catalog
from trainer.overrides import with_overrides
from trainer.systems.cascade_gabor.config import GaborConfig
from trainer.systems.cascade_gabor.losses import Decision, cascade, decision_loss, decisions
from trainer.systems.cascade_gabor.nets import GaborBank, gabor_filters
from trainer.systems.cascade_gabor.system import CascadeGabor, build

SEVEN = tuple(one for one in Expression if one != Expression.CONTEMPT)
INFO = DatasetInfo(classes=SEVEN, image_size=48, channels=1, subjects=4)


def system(info: DatasetInfo = INFO, **values: Any) -> CascadeGabor:
    return build(with_overrides(catalog.recipe("cascade_gabor.tiny"), values).system, info)


def test_questions_follow_the_paper_s_order() -> None:
    stages = system().stages()
    assert [stage.name for stage in stages] == [
        "happiness", "surprise", "neutral", "sadness", "rest",
    ]  # fmt: skip
    last = stages[-1].data
    assert last is not None and last.balance
    assert last.classes == (Expression.ANGER, Expression.DISGUST, Expression.FEAR)


def test_classes_that_the_data_lack_are_not_asked_for() -> None:
    three = (Expression.ANGER, Expression.HAPPINESS, Expression.NEUTRAL)
    made = system(replace(INFO, classes=three))
    assert [stage.name for stage in made.stages()] == ["happiness", "neutral"]
    assert decisions([1], 2) == (Decision(chosen=1, left=(0, 1)),)
    with pytest.raises(ValueError, match="at least two classes"):
        system(replace(INFO, classes=three[:1]))


def test_the_first_confident_answer_ends_the_cascade() -> None:
    """Four classes: is it 2, is it 0, and then 1 or 3."""
    questions = decisions([2, 0], 4)
    yes, no = [-1.0, 1.0], [1.0, -1.0]
    answers = [
        torch.tensor([yes, no, no, no]),
        torch.tensor([yes, yes, no, no]),
        torch.tensor([yes, yes, yes, no]),
    ]
    logits = cascade(answers, questions, [0.5, 0.5], 4)
    assert logits.argmax(1).tolist() == [2, 0, 3, 1]
    assert torch.isfinite(logits).all()
    strict = cascade(answers, questions, [0.95, 0.5], 4)
    assert strict.argmax(1).tolist() == [0, 0, 3, 1]
    lenient = cascade(answers, questions, [0.05, 0.5], 4)
    assert lenient.argmax(1).tolist() == [2, 2, 2, 2]


def test_logits_are_the_product_of_all_answers() -> None:
    torch.manual_seed(0)
    questions, answers = decisions([0, 1], 3), [torch.randn(5, 2), torch.randn(5, 2)]
    logits = cascade(answers, questions, [0.0, 0.0], 3)
    first, second = (answer.softmax(1) for answer in answers)
    expected = torch.stack([first[:, 1], first[:, 0] * second[:, 1], first[:, 0] * second[:, 0]], 1)
    others = logits.exp()[:, 1:], expected[:, 1:]
    assert torch.allclose(*others)
    sure = cascade(answers, questions, [1.0, 1.0], 3)
    assert torch.allclose(sure.exp()[:, :2], expected[:, :2])


def test_faces_of_decided_classes_do_not_count() -> None:
    expression, logits = torch.tensor([0, 1, 2, 3, 0]), torch.zeros(5, 2)
    question = Decision(chosen=1, left=(1, 3))
    loss = decision_loss(logits, expression, question, 0.0)
    assert int(loss.count) == 2
    assert float(loss.sum) == pytest.approx(2 * 0.6931, rel=1e-3)
    wide = decision_loss(logits, expression, Decision(chosen=0, left=(0, 1, 2, 3)), 0.0)
    assert float(wide.sum) == pytest.approx(0.6931 * (2 * 2 + 3 * 4 / 6), rel=1e-3)
    rest = decision_loss(torch.zeros(5, 3), expression, Decision(chosen=None, left=(0, 2, 3)), 0.0)
    assert int(rest.count) == 4


def test_gabor_filters_ignore_brightness_and_answer_their_own_direction() -> None:
    config = GaborConfig(scales=2, orientations=4, kernel_size=15)
    even, odd = gabor_filters(config)
    assert even.shape == odd.shape == (8, 1, 15, 15)
    assert float(even.sum((1, 2, 3)).abs().max()) < 1e-4
    assert float(odd.sum((1, 2, 3)).abs().max()) < 1e-4
    assert torch.allclose(even.flatten(1).norm(dim=1), torch.ones(8))
    bank = GaborBank(replace(config, stride=1))
    column = torch.arange(48.0).expand(1, 1, 48, 48)
    waves = torch.cat([torch.cos(2 * torch.pi * column / 3), column.new_full(column.shape, 0.7)])
    answer = bank(waves)[:, :, 10:-10, 10:-10].mean((2, 3))
    assert int(answer[0, :4].argmax()) == 0
    assert float(answer[1].max()) < 0.01


def test_only_learned_filters_are_trained() -> None:
    names = {"learned": 2, "fixed": 0}
    for kind, count in names.items():
        model = system(**{"system.gabor.kind": kind}).models["happiness"]
        assert sum("N1SS" in name for name, _ in model.named_parameters()) == count


def test_misfits_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="at most 4 different classes"):
        system(**{"system.order": "happiness,happiness"})
    with pytest.raises(ValueError, match="valid: odd"):
        system(**{"system.gabor.kernel_size": 8})
