"""Randomness without a generator: a number is a hash of what it is for.

Counter-based (splitmix64 by Steele, Lea and Flood, 2014), vectorised, and the same on every machine
and in every version of numpy: so any part of a plan can be drawn alone, in any order, by anybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)


def mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, elementwise on uint64; a bijection."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def text_key(text: str) -> int:
    """Sixty-four bits that name a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """`text_key` of each text, uint64."""
    return np.fromiter((text_key(text) for text in texts), np.uint64, len(texts))


def stream_key(seed: int, stream: str, index: int = 0) -> np.ndarray:
    """The uint64 scalar that names one stream of numbers: of a seed, for a purpose, by an index."""
    return np.array(text_key(f"{seed}/{stream}/{index}"), np.uint64)


def keys(seed: int, stream: str, counters: np.ndarray) -> np.ndarray:
    """One uint64 for every counter, all different where the counters are."""
    return mix(counters.astype(np.uint64) * _GOLDEN ^ stream_key(seed, stream))


def derive(key: np.ndarray, stream: str) -> np.ndarray:
    """A further uint64 for every key, for the purpose that `stream` names."""
    return mix(mix(key ^ stream_key(0, stream)) + _GOLDEN)


def uniforms(key: np.ndarray, stream: str) -> np.ndarray:
    """Float64 in [0, 1), one for every key."""
    return (derive(key, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(key: np.ndarray, stream: str, bound: np.ndarray | int) -> np.ndarray:
    """Int64 in [0, bound), one for every key; `bound` is at least 1 and below 2**32."""
    scaled = (derive(key, stream) >> _HALF) * np.asarray(bound).astype(np.uint64)
    return (scaled >> _HALF).astype(np.int64)


def shuffled(seed: int, stream: str, index: int, count: int) -> np.ndarray:
    """The `index`-th order of `count` things, read-only."""
    order_keys = mix(np.arange(count, dtype=np.uint64) * _GOLDEN ^ stream_key(seed, stream, index))
    order = np.argsort(mix(order_keys + _GOLDEN), kind="stable")
    order.flags.writeable = False
    return order


@lru_cache(maxsize=16)
def permutation(seed: int, stream: str, index: int, count: int) -> np.ndarray:
    """`shuffled`, of which the last few that were asked for are kept."""
    return shuffled(seed, stream, index, count)


def sliding_order(
    seed: int, stream: str, index: int, piece_N: np.ndarray, window: int
) -> np.ndarray:
    """The `index`-th order of things in which those of a piece stay near each other, read-only.

    `piece_N` says which piece each lies in. Pieces come in a new order each time, and from there
    everything moves back by up to `window` places, each by its own: so of the things in pieces'
    order, only the last `window` are to be held ready at any place.
    """
    pieces, place_N = np.unique(piece_N, return_inverse=True)
    rank_P = shuffled(seed, f"{stream}/chunks", index, len(pieces))
    in_pieces_N = np.argsort(rank_P[place_N], kind="stable")
    counter_N = np.arange(len(piece_N))
    moves_N = keys(seed, f"{stream}/{index}/moves", counter_N) >> np.uint64(11)
    order_N = in_pieces_N[np.argsort(counter_N + window * (moves_N * 2.0**-53), kind="stable")]
    order_N.flags.writeable = False
    return order_N
