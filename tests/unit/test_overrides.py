from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from data_service.schema import Expression
from trainer import catalog
from trainer.config import RunConfig, fingerprint, knob, to_dict, weight, weights_of
from trainer.overrides import canonical_path, from_dict, knobs, with_overrides
from trainer.schedules import Ramp, Schedule
from trainer.system import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    identity: Schedule = weight(1.0, paper="lambda_1")
    cycle: Schedule = weight(0.5, paper="lambda_2", bounds=(0, 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    weights: Weights = field(default_factory=Weights)
    width: int = knob(16, bounds=(1, 512), doc="channels of the first layer")
    gate: Literal["open", "shut"] = "open"
    soft: bool = True
    scales: tuple[int, ...] = (1, 2)
    shares: tuple[float, ...] = (0.5,)


RUN = RunConfig(system_name="paper", recipe="tiny", system=Settings())


@pytest.mark.parametrize("path", ["system.weights.identity", "system.weights.lambda_1", "lambda_1"])
def test_a_weight_goes_by_its_name_and_by_the_papers_symbol(path: str) -> None:
    assert canonical_path(RUN, path) == "system.weights.identity"
    assert weights_of(with_overrides(RUN, {path: "0.25"}))["identity"] == 0.25


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("system.width", "32", 32),
        ("system.gate", "shut", "shut"),
        ("system.soft", "off", False),
        ("system.scales", "1,2,4", (1, 2, 4)),
        (
            "system.weights.cycle",
            "0->1@0:0.5,cosine",
            Ramp(start=0, end=1, finish=0.5, shape="cosine"),
        ),
        ("data.classes", "fear,anger", (Expression.FEAR, Expression.ANGER)),
        ("engine.zero", "none", None),
        ("engine.zero", "2", 2),
        ("seed", "7", 7),
    ],
)
def test_text_is_read_by_the_settings_type(path: str, text: str, found: object) -> None:
    changed = with_overrides(RUN, {path: text})
    found_by_path = {setting.path: setting.default for setting in knobs(changed)}
    value = found_by_path[canonical_path(RUN, path)]
    assert value == found


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("system.weights.identty", "1", "valid: system.weights.identity"),
        ("system.widht", "1", "system.width"),
        ("nothing.like.it", "1", "unknown setting 'nothing.like.it' of paper.tiny"),
        ("system.width", "wide", "system.width cannot be 'wide'"),
        ("system.width", "0", "system.width is 0; valid: 1 to 512"),
        ("system.gate", "ajar", "valid: open, shut"),
        ("system.soft", "maybe", "valid: true, false"),
        ("system.weights.identity", "-0.5", "valid: 0.0 to 10.0"),
        ("system.weights.cycle", "0->3", "valid: 0 to 2"),
        ("data.classes", "bored", "unknown expression 'bored'"),
        ("engine.workers", "0", "at least 1"),
        ("engine.workers", "5", "worker counts that can: 1, 2, 4, 8, 16"),
        ("engine.zero", "3", "valid: 0, 1, 2"),
        ("engine.precision", "fp8", "valid: fp32, bf16"),
        ("engine.threads", "-1", "engine.threads is -1; valid: 1 to 1024"),
        ("data.prefetch_batches", "0", "data.prefetch_batches is 0; valid: 1 to 1024"),
        ("data.image_size", "0", "data.image_size is 0; valid: 1 to 4096"),
        ("evaluation.patience", "-1", "evaluation.patience is -1; valid: 0 to"),
        ("checkpoint.every_seconds", "nan", "checkpoint.every_seconds is nan; valid: 0.0 to"),
        ("checkpoint.every_steps", "-5", "checkpoint.every_steps is -5; valid: 1 to"),
        ("checkpoint.every_steps", "0", "checkpoint.every_steps is 0; valid: 1 to"),
        ("checkpoint.keep", "-5", "checkpoint.keep is -5; valid: 1 to"),
        ("checkpoint.keep_hours", "nan", "checkpoint.keep_hours is nan; valid: 0.0 to"),
        ("data.augment.rotation_degrees", "nan", "rotation_degrees is nan; valid: finite numbers"),
        ("system.shares", "0.5,inf", "system.shares is (0.5, inf); valid: finite numbers"),
        ("seed", "-1", "seed is -1; valid: 0 to"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_valid(path: str, text: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        with_overrides(RUN, {path: text})
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("learning_rate", "-1", "learning_rate is -1.0; valid: zero or above"),
        ("learning_rate", "0.1->-0.1", "valid: zero or above"),
        ("learning_rate", "nan", "learning_rate is nan"),
        ("weight_decay", "-1", "weight_decay is -1.0"),
        ("learning_rate", "1->inf", "valid: finite numbers"),
        ("betas", "0.9,1", r"betas are (0.9, 1.0); valid: from 0, and below 1"),
        ("momentum", "1", "momentum is 1.0; valid: from 0, and below 1"),
        ("momentum", "-0.1", "momentum is -0.1; valid: from 0, and below 1"),
        ("warmup", "-0.5", "warmup is -0.5; valid: 0 to 1"),
        ("clip_norm", "inf", "clip_norm is inf; valid: finite numbers"),
        ("lr_scale", {"bias": -1.0}, "lr_scale is {'bias': -1.0}; valid: zero or above"),
    ],
)
def test_an_optimiser_that_cannot_be_is_refused(name: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        with_overrides(catalog.recipe("baseline.tiny"), {f"system.optimizer.{name}": value})


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "clip_norm"])
def test_an_endless_optimiser_is_refused_however_it_is_made(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is inf; valid: zero or above, and finite"):
        OptimizerConfig(**{name: math.inf})


@pytest.mark.parametrize("name", ["baseline", "exprgan", "fersnet", "multilevel_critic", "ter_gan"])
def test_averages_never_run_ahead_of_what_they_follow(name: str) -> None:
    path, run = "system.ema_halflife_images", catalog.recipe(f"{name}.tiny")
    with pytest.raises(ValueError, match=f"{path} is -100; valid: 0 to"):
        with_overrides(run, {path: "-100"})
    assert with_overrides(run, {path: "0"}).system.ema_halflife_images == 0


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("learning_rate", "system.optimizer.learning_rate"),
        ("lambda_clss", "lambda_cls"),
        ("evalution.patience", "evaluation.patience"),
        ("system.optimizer.learning_rat", "system.optimizer.learning_rate"),
        ("system.weights.identty", "system.weights.identity"),
    ],
)
def test_what_may_be_meant_is_named_first(path: str, first: str) -> None:
    with pytest.raises(ValueError, match="unknown setting") as error:
        with_overrides(catalog.recipe("fersnet.tiny"), {path: "1"})
    said = str(error.value)
    assert re.search(f"valid: {first}[,;]", said)
    assert said.endswith("; all: mien systems fersnet.tiny --knobs")


def test_an_unknown_setting_is_told_its_siblings_else_the_sections() -> None:
    with pytest.raises(ValueError, match=r"valid: system\.weights\.identity, "):
        canonical_path(RUN, "system.weights.qqqq")
    with pytest.raises(ValueError, match=r"valid: system\.optimizer\.name, "):
        canonical_path(catalog.recipe("baseline.tiny"), "system.optimiser.rate")
    with pytest.raises(ValueError, match="valid: checkpoint, data, engine, evaluation, "):
        canonical_path(RUN, "qqqq.qqqq")


def test_one_setting_has_one_value_whatever_it_is_called() -> None:
    with pytest.raises(ValueError, match=r"weights.identity is given as 1 and as 2; give one"):
        with_overrides(RUN, {"lambda_1": "1", "system.weights.identity": "2"})
    same = with_overrides(RUN, {"lambda_1": "2", "system.weights.identity": "2"})
    assert same.system.weights.identity == 2


def test_settings_that_only_fit_together_may_be_set_together() -> None:
    changed = with_overrides(RUN, {"engine.workers": "3", "data.global_batch_images": "33"})
    assert changed.engine.workers == 3


def test_an_override_leaves_the_original_alone() -> None:
    with_overrides(RUN, {"system.width": "64"})
    assert RUN.system.width == 16


def test_equal_settings_have_equal_fingerprints() -> None:
    assert fingerprint(RUN) == fingerprint(with_overrides(RUN, {"system.width": "16"}))
    assert fingerprint(RUN) != fingerprint(with_overrides(RUN, {"system.width": "17"}))


@pytest.mark.parametrize("name", catalog.names())
def test_every_knob_of_every_recipe_survives_json_and_override(name: str) -> None:
    for key in catalog.load(name).recipes:
        run = catalog.recipe(f"{name}.{key}")
        assert from_dict(json.loads(json.dumps(to_dict(run)))) == run
        settings = knobs(run)
        assert with_overrides(run, {one.path: one.default for one in settings}) == run
        for one in settings:
            assert one.alias is None or canonical_path(run, one.alias) == one.path
