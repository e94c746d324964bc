"""The sum over the samples that moved the weights tells whether each step was applied once."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.ledger import entry

KEYS = torch.arange(12, dtype=torch.int64) * 7919 + 3
ROWS = torch.arange(12, dtype=torch.int64)


def total(steps: list[int]) -> int:
    return int(sum(entry(step, KEYS, ROWS) for step in steps))


@given(st.integers(1, 11))
def test_ranks_add_up_to_the_global_batch(cut: int) -> None:
    left, right = entry(5, KEYS[:cut], ROWS[:cut]), entry(5, KEYS[cut:], ROWS[cut:])
    assert left + right == entry(5, KEYS, ROWS)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_only_every_step_once_adds_up(steps: list[int]) -> None:
    once = sorted(steps) == list(range(len(steps)))
    assert (total(steps) == total(list(range(len(steps))))) == once


def test_another_face_in_a_slot_is_noticed() -> None:
    swapped = ROWS.clone()
    swapped[[0, 1]] = ROWS[[1, 0]]
    assert entry(0, KEYS, swapped) != entry(0, KEYS, ROWS)
