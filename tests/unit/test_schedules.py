from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.schedules import Ramp, ever_positive, parse, value_at
from trainer.system import OptimizerConfig

fractions = st.floats(0, 1)
values = st.floats(-5, 5)


@given(start=values, end=values, at=fractions, shape=st.sampled_from(["linear", "cosine"]))
def test_a_ramp_stays_between_its_ends(start: float, end: float, at: float, shape: str) -> None:
    ramp = Ramp(start=start, end=end, shape=shape)  # type: ignore[arg-type]
    assert min(start, end) - 1e-9 <= ramp.at(at) <= max(start, end) + 1e-9
    assert ramp.at(0) == pytest.approx(start, abs=1e-9)
    assert ramp.at(1) == pytest.approx(end, abs=1e-9)


def test_a_ramp_rests_before_and_after_its_span() -> None:
    ramp = Ramp(start=1.0, end=3.0, begin=0.25, finish=0.75)
    assert [ramp.at(x) for x in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_half_a_cosine_is_slow_at_its_ends() -> None:
    ramp = Ramp(start=0.0, end=1.0, shape="cosine")
    assert ramp.at(0.5) == pytest.approx(0.5)
    assert ramp.at(0.1) == pytest.approx((1 - math.cos(0.1 * math.pi)) / 2)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("0->1", Ramp(start=0, end=1)),
        ("1->0@0.5:1", Ramp(start=1, end=0, begin=0.5, finish=1)),
        ("1->0@0:0.5,cosine", Ramp(start=1, end=0, begin=0, finish=0.5, shape="cosine")),
    ],
)
def test_schedules_are_read_from_text(text: str, found: float | Ramp) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["", "much", "0->", "0->1@0.5:0.5", "0->1@0.9:0.1", "0->1,bumpy"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_term_is_wanted_when_its_weight_is_ever_above_zero() -> None:
    assert ever_positive(Ramp(start=0, end=1)) and ever_positive(Ramp(start=1, end=0))
    assert ever_positive(0.1) and not ever_positive(0.0) and not ever_positive(Ramp(start=0, end=0))
    assert value_at(2, 0.7) == 2.0


def test_warmup_rises_to_the_rate_of_the_schedule() -> None:
    ramp = Ramp(start=1.0, end=0.0)
    config = OptimizerConfig(learning_rate=ramp, warmup=0.2)
    assert [config.rate(at) for at in (0.0, 0.1, 0.2, 0.6)] == pytest.approx([0, 0.45, 0.8, 0.4])
    assert OptimizerConfig(learning_rate=ramp).rate(0.0) == 1.0
