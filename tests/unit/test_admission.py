"""What the gate knows of real faces: the space they lie in, and how often its judges err."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.synthetic.admission import _chance
from trainer.synthetic.face_space import COMPONENTS, FaceSpace

SIDE = 12


def faces(count: int, seed: int) -> Tensor:
    """Smooth pictures: a few waves each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    turns = rng.uniform(0, 2 * np.pi, (count, 3, 1, 1))
    made = np.sin(2 * np.pi * rows + turns) * np.cos(2 * np.pi * columns + turns[:, :1])
    made += rng.normal(0, 0.02, made.shape)
    return torch.from_numpy(made.astype(np.float32)) * 0.5


def test_real_faces_of_others_lie_in_face_space_and_noise_does_not() -> None:
    space = FaceSpace.fit(faces(80, 0), faces(50, 1))
    assert space(faces(50, 1)).all()
    assert space(faces(50, 2)).float().mean() > 0.9
    noise = torch.rand(20, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert not space(noise).any()
    assert space(faces(1, 1).expand(4, -1, -1, -1)).all(), "one face is a face"


def test_a_space_has_no_more_components_than_its_faces_show() -> None:
    same = faces(1, 0).expand(9, -1, -1, -1)
    assert FaceSpace.fit(same, same)(same).all()
    assert FaceSpace.fit(faces(100, 0), same).basis_PE.shape[1] <= COMPONENTS
    few = FaceSpace.fit(faces(9, 0), same)
    assert few.basis_PE.shape[1] <= 8
    eye = few.basis_PE.T @ few.basis_PE
    torch.testing.assert_close(eye, torch.eye(len(eye)), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("gate", "chance"), [(0.7, (1 / 12, 6 / 12)), (0.0, (0.0, 0.0))])
def test_chance_is_how_often_other_classes_pass(gate: float, chance: tuple[float, ...]) -> None:
    """Ten faces of either class; five of the first are taken for the second, none the other way."""
    labels_N = np.array([0] * 10 + [1] * 10)
    logits = torch.tensor([[9.0, 0.0]] * 5 + [[0.0, 9.0]] * 15)

    def judge(shown_BCHW: Tensor) -> Tensor:
        return logits[shown_BCHW.flatten().long()]

    whole = torch.arange(20.0).view(20, 1, 1, 1)
    real = [(labels_N[::2], whole[::2]), (labels_N[1::2], whole[1::2])]
    assert _chance((judge, judge), real, gate) == pytest.approx(chance)  # type: ignore[arg-type]
