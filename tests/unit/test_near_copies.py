"""Near copies are those that a comparison with every face finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_service.synthesis.near_copies import NearCopies


@given(
    seed=st.integers(0, 999),
    gate=st.floats(0.001, 0.2),
    side=st.integers(3, 20),
    channels=st.sampled_from([1, 3]),
)
def test_as_by_comparing_with_all(seed, gate, side, channels):
    rng = np.random.default_rng(seed)
    base_HWC = rng.integers(0, 256, (side, side, channels))
    changes = rng.normal(0, 255 * gate * 2, (12, 1, 1, 1)) * rng.random((12, side, side, channels))
    faces_MHWC = (base_HWC + changes).clip(0, 255).astype(np.uint8)
    part = slice(side // 4, side)
    seen = NearCopies(part, gate)
    known = []
    for face_HWC in faces_MHWC:
        own = face_HWC[part, part].astype(float)
        gaps = [np.abs(own - one[part, part]).mean() / 255 for one in known]
        if not any(abs(gap - gate) < 1e-9 for gap in gaps):
            assert seen.near(face_HWC) == any(gap < gate for gap in gaps)
        seen.add(face_HWC)
        known.append(face_HWC)


@pytest.mark.parametrize("gate", [0.0, 0.01])
def test_a_gate_of_zero_lets_copies_pass(gate):
    seen = NearCopies(slice(0, 8), gate)
    face_HWC = np.zeros((8, 8, 3), np.uint8)
    for _ in range(200):
        seen.add(face_HWC)
    assert len(seen) == 200
    assert seen.near(face_HWC) == (gate > 0)
