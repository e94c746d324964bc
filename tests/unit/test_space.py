"""The search space is checked against the run's knobs before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_origin, get_type_hints

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from trainer import catalog
from trainer.config import RunConfig, knob, weight
from trainer.overrides import with_overrides
from trainer.schedules import Ramp, Schedule, ever_positive
from tuning.space import ready_space, search_space, with_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    pixel: Schedule = weight(1.0, paper="lambda_1")
    identity: Schedule = weight(0.5, paper="lambda_2", bounds=(0.0, 2.0))
    critic: Schedule = weight(0.0, paper="lambda_3")
    own: Schedule = weight(1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    open: bool = knob(True)
    granularity: Literal["pixel", "channel"] = knob("pixel")
    bias: float = knob(0.0, bounds=(-4.0, 4.0))
    temperature: float = knob(1.0, bounds=(0.1, 10.0), log=True)
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    weights: Weights = field(default_factory=Weights)
    gates: Gates = field(default_factory=Gates)
    width: int = knob(16, bounds=(1, 512))
    halflife: int | None = knob(None)
    rate: float | None = knob(1)
    sizes: tuple[int, ...] = (8, 16)


@pytest.fixture
def run() -> RunConfig:
    return RunConfig(system_name="fake", recipe="tiny", system=Settings())


def test_ready_space_has_the_papers_weights_and_the_gates(run: RunConfig) -> None:
    space = search_space(run)
    assert dict(space.distributions) == {
        "system.weights.pixel": FloatDistribution(0.1, 10.0, log=True),
        "system.weights.identity": FloatDistribution(0.05, 2.0, log=True),
        "system.weights.critic": FloatDistribution(0.0, 10.0),
        "system.gates.open": CategoricalDistribution([False, True]),
        "system.gates.granularity": CategoricalDistribution(["pixel", "channel"]),
        "system.gates.bias": FloatDistribution(-4.0, 4.0),
        "system.gates.temperature": FloatDistribution(0.1, 10.0, log=True),
    }
    assert set(space.own) == set(space.distributions)
    assert space.own["system.weights.identity"] == 0.5


def test_a_range_by_alias_by_path_and_in_whole_numbers(run: RunConfig) -> None:
    space = search_space(run, ["lambda_1=0:2", "system.width=8:64:log", "lambda_2=0.1:1:log"])
    assert dict(space.distributions) == {
        "system.weights.pixel": FloatDistribution(0.0, 2.0),
        "system.width": IntDistribution(8, 64, log=True),
        "system.weights.identity": FloatDistribution(0.1, 1.0, log=True),
    }


def test_a_range_has_the_type_of_its_setting_whatever_that_one_is_now(run: RunConfig) -> None:
    space = search_space(run, ["system.halflife=500:8000:log", "system.rate=1:2"])
    assert dict(space.distributions) == {
        "system.halflife": IntDistribution(500, 8000, log=True),
        "system.rate": FloatDistribution(1.0, 2.0),
    }
    assert with_setting(run, {"system.halflife": 501}).system.halflife == 501
    assert space.own == {"system.rate": 1}, "none is in no range"


def test_listed_values_have_the_settings_type(run: RunConfig) -> None:
    space = search_space(run, ["system.gates.open=on,off", "system.width=8,16"])
    assert space.distributions["system.gates.open"] == CategoricalDistribution([True, False])
    assert space.distributions["system.width"] == CategoricalDistribution([8, 16])


def test_lists_are_told_apart_by_a_bar(run: RunConfig) -> None:
    space = search_space(run, ["system.sizes=8, 16|32,64 | 4"])
    assert space.distributions["system.sizes"] == CategoricalDistribution(["8,16", "32,64", "4"])
    assert space.own == {"system.sizes": "8,16"}
    assert with_setting(run, {"system.sizes": "32,64"}).system.sizes == (32, 64)


def test_bare_names_and_patterns_take_the_ready_range(run: RunConfig) -> None:
    space = search_space(run, ["lambda_*", "system.gates.bias"])
    assert list(space.distributions) == [
        "system.weights.pixel",
        "system.weights.identity",
        "system.weights.critic",
        "system.gates.bias",
    ]


def test_an_own_value_outside_the_space_is_left_out(run: RunConfig) -> None:
    assert search_space(run, ["lambda_1=2:4", "lambda_2=0:1"]).own == {
        "system.weights.identity": 0.5
    }


def test_a_ramp_is_searched_by_its_peak_and_keeps_its_course(run: RunConfig) -> None:
    ramp = Ramp(start=0.0, end=0.3, begin=0.2, finish=0.5)
    ramped = replace(run, system=Settings(weights=Weights(pixel=ramp)))
    space = search_space(ramped, ["lambda_1"])
    assert space.own == {"system.weights.pixel": 0.3}
    found = space.distributions["system.weights.pixel"]
    assert isinstance(found, FloatDistribution) and found.log
    assert (found.low, found.high) == pytest.approx((0.03, 3.0))
    assert with_setting(ramped, space.own) == ramped
    changed = with_setting(ramped, {"system.weights.pixel": 0.6}).system.weights.pixel
    assert changed == Ramp(start=0.0, end=0.6, begin=0.2, finish=0.5)


@pytest.mark.parametrize("name", catalog.names())
def test_every_recipes_own_setting_is_the_point_of_trial_0(name: str) -> None:
    for recipe in catalog.load(name).recipes.values():
        own = recipe()
        space = search_space(own)
        assert with_setting(own, space.own) == own
        assert space.own.keys() == space.distributions.keys() != set(), (name, own.recipe)


def declared(section: Any, prefix: str = "") -> dict[str, tuple[Mapping[str, Any], Any, Any]]:
    """What the settings of a system say of themselves, by path: marks, type and value."""
    found = {}
    types = get_type_hints(type(section))
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value) and not isinstance(value, Ramp):
            found |= declared(value, f"{prefix}{item.name}.")
        else:
            found[prefix + item.name] = (item.metadata, types[item.name], value)
    return found


def has_range(marks: Mapping[str, Any], kind: Any, value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(marks.get("search")) and len(value) > 1
    return isinstance(value, bool) or get_origin(kind) is Literal or bool(marks.get("bounds"))


@pytest.mark.parametrize("name", catalog.names())
def test_the_ready_space_of_every_system(name: str) -> None:
    """Its gates, what its paper names by a symbol, what it marks; else its weights or its rate."""
    run = catalog.recipe(f"{name}.tiny")
    known = declared(run.system)
    asked = {
        path
        for path, (marks, kind, value) in known.items()
        if marks.get("paper") or marks.get("search") or path.startswith("gates.")
        if has_range(marks, kind, value)
    }
    weights = {path: known[path] for path in known if path.startswith("weights.")}
    if not any(marks.get("paper") for marks, _, _ in weights.values()):
        positive = {path for path, (_, _, value) in weights.items() if ever_positive(value)}
        asked |= positive if len(positive) > 1 else {"optimizer.learning_rate"}
    found = [path.removeprefix("system.") for path in ready_space(run)]
    assert found == [path for path in known if path in asked] != []


def test_the_ready_space_of_a_paper_with_symbols_is_their_weights() -> None:
    found = ready_space(catalog.recipe("exprgan.tiny"))
    names = ("identity", "expression_code", "adversarial_image", "adversarial_latent", "tv")
    assert list(found) == [f"system.weights.{name}" for name in names]


def test_one_weight_alone_gives_way_to_the_learning_rate() -> None:
    own = catalog.recipe("baseline.tiny")
    path = "system.optimizer.learning_rate"
    peak = own.system.optimizer.learning_rate.peak
    found = ready_space(own)[path]
    assert isinstance(found, FloatDistribution) and found.log
    assert (found.low, found.high) == pytest.approx((peak / 10, peak * 10))
    changed = with_setting(own, {path: peak / 2}).system.optimizer.learning_rate
    assert changed == own.system.optimizer.learning_rate.scaled_to(peak / 2)


def test_a_weight_takes_its_complement_along_the_papers_line() -> None:
    own = catalog.recipe("oadn.tiny")
    assert ready_space(own)["system.weights.attention"] == FloatDistribution(0.05, 0.95)
    moved = with_setting(own, {"system.weights.attention": 0.75}).system.weights
    assert (moved.attention, moved.region) == (0.75, 0.25)
    both = with_setting(own, {"system.weights.attention": 0.75, "system.weights.region": 2.0})
    assert both.system.weights.region == 2.0, "searched itself"
    backbone = catalog.recipe("oadn.tiny_backbone")
    apart = with_setting(backbone, {"system.weights.attention": 0.75})
    assert apart.system.weights.region == 0.0, "not on the line"
    taught = catalog.recipe("occlusion_distillation.tiny")
    mixed = with_setting(taught, {"system.weights.distillation": 0.25}).system.weights
    assert (mixed.distillation, mixed.label) == (0.25, 0.75)


def test_levels_are_searched_by_their_parts_and_k_by_blocks_of_a_side() -> None:
    own = catalog.recipe("multilevel_critic.tiny")
    space = search_space(own)
    levels = ["12", "24", "12,24"]
    assert space.distributions["system.levels"] == CategoricalDistribution(levels)
    assert space.own["system.levels"] == "12,24"
    sets = [with_setting(own, {"system.levels": text}).system.levels for text in levels]
    assert sets == [(12,), (24,), (12, 24)]
    blocks = "system.network.blocks_per_side"
    assert ready_space(catalog.recipe("oadn.tiny"))[blocks] == IntDistribution(1, 4)
    more = with_overrides(catalog.recipe("oadn.tiny"), {blocks: 6})
    assert search_space(more).distributions[blocks] == IntDistribution(1, 6), "its own is in it"
    assert search_space(more).own[blocks] == 6


def test_a_condition_names_another_setting_and_its_value(run: RunConfig) -> None:
    texts = ["system.gates.open=on,off", "system.gates.bias if system.gates.open=on"]
    space = search_space(run, texts)
    assert space.conditions == {"system.gates.bias": ("system.gates.open", True)}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["system.gates.bias if system.gates.open=on"], "must be searched too"),
        (["lambda_1=0:1", "system.gates.bias if lambda_1=1"], "over listed values"),
        (["system.width=8,16", "system.gates.bias if system.width=9"], "searched over 8, 16"),
        (["system.width=8,16", "system.gates.bias if system.wdth=8"], "unknown setting"),
    ],
)
def test_a_wrong_condition_is_one_line(run: RunConfig, texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        search_space(run, texts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system.gates.bais=0:1", "unknown setting.*system.gates.bias"),
        ("lambda_9=0:1", "unknown setting 'lambda_9'.*lambda_1"),
        ("lambda_1=2:1", "empty"),
        ("lambda_1=1:1", "empty"),
        ("lambda_1=0:1:log", "above zero"),
        ("lambda_1=0:11", "valid: 0.0 to 10.0"),
        ("system.gates.bias=-5:1", "valid: -4.0 to 4.0"),
        ("lambda_1=a:b", "'a' is not a finite number"),
        ("lambda_1=0:inf", "'inf' is not a finite number"),
        ("lambda_1=0:1:ln", "LOW:HIGH:log"),
        ("system.gates.granularity=0:1", "valid: pixel, channel"),
        ("system.gates.granularity=pixel,scalar", "valid: pixel, channel"),
        ("system.gates.open=", "lists no value"),
        ("system.width=8:9.5", "an int|invalid literal"),
        ("system.width=8,8", "twice"),
        ("system.gates.note", "no range of its own"),
        ("system.gates.note=0:1", "no number; valid: --search system.gates.note=a,b,c"),
        ("system.sizes=8:64", "it is no number"),
        ("system.sizes=8,16,32", r"lists one list; valid: system.sizes=16,32\|32,64"),
        ("nothing.*", "names no setting"),
    ],
)
def test_wrong_input_is_one_line(run: RunConfig, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        search_space(run, [text])
    assert "\n" not in str(caught.value)


def test_a_setting_is_searched_once(run: RunConfig) -> None:
    with pytest.raises(ValueError, match="twice"):
        search_space(run, ["lambda_1=0:1", "system.weights.pixel=0:1"])
