"""Orders: whole shuffles, and those in which the pieces of a lake stay together."""

from __future__ import annotations

import numpy as np
import pytest

from data_service import seeds

PIECE, PIECES, WINDOW = 10, 800, 20
PIECE_N = np.arange(PIECE * PIECES) // PIECE


def slid(index: int, seed: int = 0) -> np.ndarray:
    return seeds.sliding_order(seed, "real", index, PIECE_N, WINDOW)


def test_a_kept_order_is_the_order() -> None:
    kept = seeds.permutation(3, "real", 5, 70)
    assert kept is seeds.permutation(3, "real", 5, 70)
    assert np.array_equal(kept, seeds.shuffled(3, "real", 5, 70))
    assert sorted(kept) == list(range(70)) and not kept.flags.writeable
    assert (seeds.permutation.cache_info().maxsize or 0) <= 16, "whole orders of a large lake"


@pytest.mark.parametrize("index", range(3))
def test_a_sliding_order_has_everything_once_and_pieces_together(index: int) -> None:
    order = slid(index)
    assert sorted(order) == list(range(len(PIECE_N))) and not order.flags.writeable
    assert np.array_equal(order, slid(index))
    assert not np.array_equal(order, slid(index + 2)) and not np.array_equal(order, slid(index, 1))
    places = np.argsort(order).reshape(PIECES, PIECE)
    assert (np.ptp(places, axis=1) < 2 * WINDOW + PIECE).all()
    assert (np.abs(np.diff(places[:, 0])) > 2 * WINDOW).mean() > 0.9, "pieces come in no order"


def test_things_that_are_missing_in_a_file_leave_its_pieces_as_they_are() -> None:
    """A piece is of the file, however many of its things take part."""
    some = np.arange(len(PIECE_N)) % 7 != 0
    order = np.flatnonzero(some)[seeds.sliding_order(0, "real", 0, PIECE_N[some], WINDOW)]
    assert sorted(order) == np.flatnonzero(some).tolist()
    first = {piece: place for place, piece in reversed(list(enumerate(PIECE_N[order])))}
    last = {piece: place for place, piece in enumerate(PIECE_N[order])}
    assert all(last[piece] - first[piece] < 2 * WINDOW + PIECE for piece in first)
