"""What is searched: dotted path -> distribution, checked against the knobs before any trial."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from trainer.config import COMPLEMENT, SEARCH, RunConfig
from trainer.overrides import Knob, canonical_path, knobs, with_overrides
from trainer.schedules import Ramp, ever_positive

SYSTEM = "system."
WEIGHTS = "system.weights."
GATES = "system.gates."
RATE = "system.optimizer.learning_rate"
SYNTHESIS_GATES = ("synthesis.gate", "synthesis.identity_gate", "synthesis.share")
DECADES = 1.0
"""A ready range of a weight, or of the learning rate, reaches this many powers of ten below and
above its own value."""


Conditions = Mapping[str, tuple[str, Any]]
"""Path -> another path and the value of that one under which the first is searched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """Distributions by canonical path, and the run's own setting of the same paths.

    A ramp is searched by its peak and keeps its course, a list by its text; see `with_setting`. A
    path is absent from `own` where the run's own value lies outside what is searched. `conditions`
    names for some paths another one and the value that it must have: else the path keeps the run's
    own value.
    """

    distributions: Mapping[str, BaseDistribution]
    own: Mapping[str, Any]
    conditions: Conditions = field(default_factory=dict)

    def ends(self) -> dict[str, tuple[float, float]]:
        """Of every range of real numbers that is always searched."""
        return {
            path: (item.low, item.high)
            for path, item in self.distributions.items()
            if isinstance(item, FloatDistribution) and path not in self.conditions
        }


def search_space(run: RunConfig, search: Sequence[str] = ()) -> SearchSpace:
    """The space that `--search` describes; without it, that of `ready_space`.

    Each text is `PATH=LOW:HIGH[:log]`, `PATH=a,b,c`, for a setting that is itself a list
    `PATH=16,32|32,64`, or a bare `PATH` or pattern such as
    `system.gates.*`, which takes the ready range of every setting that it names; ` if OTHER=VALUE`
    behind it searches it only where another searched setting has this value. ValueError: an unknown
    path (with its siblings), an empty range, log over zero, a value outside its bounds.
    """
    chosen: dict[str, BaseDistribution] = {}
    asked: dict[str, str] = {}
    for text in search:
        text, _, condition = text.partition(" if ")
        for path, distribution in _read(run, text.strip()).items():
            if path in chosen:
                raise ValueError(f"--search names {path} twice")
            chosen[path] = distribution
            if condition:
                asked[path] = condition.strip()
    distributions = chosen if search else ready_space(run)
    known = {setting.path: setting for setting in knobs(run)}
    own = {path: searched_value(known[path].default) for path in distributions}
    return SearchSpace(
        distributions=distributions,
        own={path: value for path, value in own.items() if _contains(distributions[path], value)},
        conditions=_conditions(run, distributions, asked),
    )


def searched_value(value: Any) -> Any:
    """A setting as the search has it: a ramp by its peak, a list by its text."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value.peak if isinstance(value, Ramp) and value.peak > 0 else value


def with_setting(run: RunConfig, params: Mapping[str, Any]) -> RunConfig:
    """The run with the searched settings; a ramp keeps its course and gets another peak.

    A weight whose complement is not searched and makes 1 with it in the run takes that along.
    """
    values = {}
    for path, value in params.items():
        own = _value_at(run, path)
        is_scaled = isinstance(own, Ramp) and own.peak > 0 and isinstance(value, (int, float))
        values[path] = own.scaled_to(value) if is_scaled else value
        if (other := _complement(run, path)) and other not in params and value != own:
            values[other] = 1 - value
    return with_overrides(run, values)


def _complement(run: RunConfig, path: str) -> str | None:
    """The path of the weight that is 1 minus the one at `path`; None where it is not."""
    if not (name := _mark(run, path, COMPLEMENT)):
        return None
    other = WEIGHTS + name
    both = _value_at(run, path), _value_at(run, other)
    if any(isinstance(one, Ramp) for one in both) or not math.isclose(sum(both), 1):
        return None
    return other


def _mark(run: RunConfig, path: str, name: str) -> Any:
    """What the declaration of a setting says under a name; see `trainer.config.knob`."""
    parent, _, leaf = path.rpartition(".")
    section = _value_at(run, parent) if parent else run
    return type(section).__dataclass_fields__[leaf].metadata.get(name)


def _conditions(
    run: RunConfig, distributions: Mapping[str, BaseDistribution], asked: Mapping[str, str]
) -> Conditions:
    found: dict[str, tuple[str, Any]] = {}
    for path, text in asked.items():
        name, _, value_text = text.partition("=")
        other = canonical_path(run, name.strip())
        choices = distributions.get(other)
        if not isinstance(choices, CategoricalDistribution) or other in asked or other == path:
            raise ValueError(
                f"--search {path} if {text}: {other} must be searched too, over listed values and "
                "without a condition of its own"
            )
        value = _value_at(with_overrides(run, {other: value_text.strip()}), other)
        if value not in choices.choices:
            listed = ", ".join(map(str, choices.choices))
            raise ValueError(f"--search {path} if {text}: {other} is searched over {listed}")
        found[path] = other, value
    return found


def ready_space(run: RunConfig) -> dict[str, BaseDistribution]:
    """What the paper names by a symbol, every gate setting, and what the system marks for it.

    Where no weight has a symbol, all weights above zero; the learning rate where that is but one,
    which would only scale it. The gates of FES-DA are among them where the run synthesises.
    ValueError where nothing is left.
    """
    found = {}
    unnamed = _unnamed(run)
    for setting in knobs(run):
        has_symbol = setting.path.startswith(SYSTEM) and setting.alias is not None
        is_gate = setting.path.startswith(GATES) or setting.path in SYNTHESIS_GATES
        is_marked = setting.path in unnamed or _mark(run, setting.path, SEARCH)
        if has_symbol or is_gate or is_marked:
            distribution = ready_distribution(run, setting)
            if distribution is not None:
                found[setting.path] = distribution
    if not found:
        raise ValueError(
            f"{run.system_name}.{run.recipe} has no ready search space; "
            "name settings with --search PATH=LOW:HIGH"
        )
    return found


def _unnamed(run: RunConfig) -> set[str]:
    """Weights, or the learning rate, of a system whose paper names no weight by a symbol."""
    weights = [setting for setting in knobs(run) if setting.path.startswith(WEIGHTS)]
    if any(setting.alias for setting in weights):
        return set()
    positive = {setting.path for setting in weights if ever_positive(setting.default)}
    return positive if len(positive) > 1 else {RATE}


def ready_distribution(run: RunConfig, setting: Knob) -> BaseDistribution | None:
    """What to search a setting over when only its name is given; None where it has no range.

    Choices are taken whole and bounds as they are, except for weights and the learning rate: a
    scale is searched on a log axis one decade below and above its own value, within its bounds. The
    declaration may name another range, which is widened to the own value; of a list that it marks,
    each choice is some of the items.
    """
    search, value = _mark(run, setting.path, SEARCH), searched_value(setting.default)
    if isinstance(setting.default, tuple):
        return _parts(setting.default) if search else None
    if setting.choices:
        return CategoricalDistribution(setting.choices)
    low, high = setting.bounds or (0.0, math.inf)
    is_scale = setting.path == RATE or setting.path.startswith(WEIGHTS)
    is_positive = isinstance(value, (int, float)) and value > 0
    if is_scale and is_positive and not search:
        low, high = max(low, value / 10**DECADES), min(high, value * 10**DECADES)
        return FloatDistribution(low, high, log=True)
    if setting.bounds is None:
        return None
    if isinstance(search, tuple):
        low, high = min(search[0], value), max(search[1], value)
    log = setting.log and low > 0
    if setting.number == "int":
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _parts(items: tuple[Any, ...]) -> BaseDistribution | None:
    """Each choice is one of the items, or several; None where that leaves no choice."""
    if len(items) < 2:
        return None
    counts = range(1, len(items) + 1)
    parts = itertools.chain(*(itertools.combinations(items, count) for count in counts))
    return CategoricalDistribution([searched_value(part) for part in parts])


def _read(run: RunConfig, text: str) -> dict[str, BaseDistribution]:
    name, equals, values = text.partition("=")
    known = {setting.path: setting for setting in knobs(run)}
    if not equals:
        return {path: _ready(run, known[path]) for path in _matching(run, name)}
    path = canonical_path(run, name)
    if ":" in values:
        return {path: _range(run, known[path], values)}
    return {path: _listed(run, known[path], values)}


def _matching(run: RunConfig, name: str) -> list[str]:
    if not any(sign in name for sign in "*?["):
        return [canonical_path(run, name)]
    found = []
    for setting in knobs(run):
        names = [setting.path]
        if setting.alias:
            names += [setting.alias, setting.alias.rpartition(".")[2]]
        if any(fnmatch.fnmatchcase(one, name) for one in names):
            found += [setting.path] if ready_distribution(run, setting) else []
    if not found:
        raise ValueError(f"--search {name} names no setting with a range of its own")
    return found


def _ready(run: RunConfig, setting: Knob) -> BaseDistribution:
    distribution = ready_distribution(run, setting)
    if distribution is None:
        raise ValueError(
            f"{setting.path} has no range of its own; give one: --search {setting.path}=LOW:HIGH"
        )
    return distribution


def _range(run: RunConfig, setting: Knob, values: str) -> BaseDistribution:
    path = setting.path
    if setting.choices:
        raise ValueError(
            f"{path} has no range but choices; valid: {', '.join(map(str, setting.choices))}"
        )
    if setting.number is None:
        raise ValueError(f"{path} has no range, for it is no number; valid: --search {path}=a,b,c")
    low_text, high_text, *rest = values.split(":")
    if rest not in ([], ["log"]):
        raise ValueError(f"--search {path}={values} is no range; valid: LOW:HIGH or LOW:HIGH:log")
    low, high = _number(path, low_text), _number(path, high_text)
    if not low < high:
        raise ValueError(f"--search {path}={values} is empty: {low_text} is not below {high_text}")
    if rest and low <= 0:
        raise ValueError(f"--search {path}={values}: a log range starts above zero")
    for end in (low_text, high_text):
        with_overrides(run, {path: end})
    if setting.number == "int":
        return IntDistribution(int(low), int(high), log=bool(rest))
    return FloatDistribution(low, high, log=bool(rest))


def _number(path: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"--search {path}: '{text}' is not a finite number")
    return value


def _listed(run: RunConfig, setting: Knob, values: str) -> BaseDistribution:
    is_list = isinstance(setting.default, tuple)
    texts = [text.strip() for text in values.split("|" if is_list else ",") if text.strip()]
    if not texts or (is_list and len(texts) == 1 and "," in texts[0]):
        valid = "=16,32|32,64, lists by |" if is_list else "=a,b,c"
        found = "one list" if texts else "no value"
        raise ValueError(f"--search {setting.path} lists {found}; valid: {setting.path}{valid}")
    read = [_value_at(with_overrides(run, {setting.path: text}), setting.path) for text in texts]
    given = [searched_value(value) for value in read]
    choices = [
        value if isinstance(value, (bool, int, float, str)) or value is None else text
        for value, text in zip(given, texts, strict=True)
    ]
    if len(set(choices)) < len(choices):
        raise ValueError(f"--search {setting.path}={values} lists a value twice")
    return CategoricalDistribution(choices)


def _value_at(run: RunConfig, path: str) -> Any:
    value: Any = run
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(
            value == choice and type(value) is type(choice) for choice in distribution.choices
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.low <= value <= distribution.high
