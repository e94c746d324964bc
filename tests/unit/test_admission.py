"""Who judges a synthetic face, and what the gate knows of real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from data_service.synthesis.attempts import Attempts
from trainer import catalog, feed
from trainer.config import PoolConfig
from trainer.feed import TrainingData
from trainer.scorecard.evaluate import faces_of
from trainer.synthetic import admission
from trainer.synthetic.admission import CrossFittedGate, SameSubject, _chance
from trainer.synthetic.face_space import COMPONENTS, FaceSpace
from trainer.system import System

SIDE = 12
RUN = catalog.recipe("baseline.tiny")
TRUTHS = ((True, True, True), (False, True, True), (True, False, True), (True, True, False))
"""Is it a face, does it show the expression, is it the subject: one answer for each refusal."""
ANSWERS = ("", "no face", "expression", "identity")


def faces(count: int, seed: int) -> Tensor:
    """Smooth pictures: a few waves each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    turns = rng.uniform(0, 2 * np.pi, (count, 3, 1, 1))
    made = np.sin(2 * np.pi * rows + turns) * np.cos(2 * np.pi * columns + turns[:, :1])
    made += rng.normal(0, 0.02, made.shape)
    return torch.from_numpy(made.astype(np.float32)) * 0.5


def test_real_faces_of_others_lie_in_face_space_and_noise_does_not() -> None:
    space = FaceSpace.fit(faces(80, 0), [faces(20, 1), faces(50, 1)])
    assert space(faces(50, 1)).all()
    assert space(faces(50, 2)).float().mean() > 0.9
    noise = torch.rand(20, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert not space(noise).any()
    assert space(faces(1, 1).expand(4, -1, -1, -1)).all(), "one face is a face"


def test_a_space_has_no_more_components_than_its_faces_show() -> None:
    same = faces(1, 0).expand(9, -1, -1, -1)
    assert FaceSpace.fit(same, [same])(same).all()
    assert FaceSpace.fit(faces(100, 0), [same]).basis_PE.shape[1] <= COMPONENTS
    few = FaceSpace.fit(faces(9, 0), [same])
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
    real = [(labels_N[::2], whole[::2].split(3)), (labels_N[1::2], [whole[1::2]])]
    assert _chance((judge, judge), real, gate) == pytest.approx(chance)  # type: ignore[arg-type]


class Subject(nn.Module):
    """Sees the subject in one channel of a face: two of them, at right angles."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel
        self.weight = nn.Parameter(torch.zeros(1))

    def embed(self, faces_BCHW: Tensor) -> Tensor:
        seen_B = faces_BCHW[:, self.channel].flatten()
        return torch.stack([seen_B, 1 - seen_B], 1)


def asked(halves: list[int], *, identities: bool = True) -> tuple[str, ...]:
    """Of four faces, whose sources are of those halves, the answers of a gate of stubs.

    Who judges a half sees only three channels of a face, in which stand the TRUTHS; who judges the
    other half sees there the opposite.
    """
    made_BCHW = torch.zeros(4, 6, 1, 1)
    for face_CHW, half, truths in zip(made_BCHW, halves, TRUTHS, strict=True):
        face_CHW[3 * half : 3 * half + 3, 0, 0] = torch.tensor(truths).float()
        face_CHW[3 - 3 * half : 6 - 3 * half, 0, 0] = 1 - torch.tensor(truths).float()

    def judge(half: int) -> Any:
        return lambda shown_BCHW: (
            9 * (shown_BCHW[:, 3 * half + 1].flatten(1) * torch.tensor([[-1.0, 1.0]]))
        )

    def space(half: int) -> Any:
        return lambda shown_BCHW: shown_BCHW[:, 3 * half].flatten() > 0

    same = [SameSubject(network=Subject(3 * half + 2), least=0.5) for half in (0, 1)]
    gate = CrossFittedGate(
        gate=0.7,
        judges=(judge(0), judge(1)),
        half_of_row=np.array([0, 1]),
        spaces=(space(0), space(1)),
        chance=(0.0, 0.0),
        identities=(same[0], same[1]) if identities else None,
        hash="stubs",
    )
    return gate(
        Attempts(
            made_BCHW=made_BCHW,
            source_BCHW=torch.ones(4, 6, 1, 1),
            source_rows=np.array(halves),
            target_expression_B=torch.ones(4, dtype=torch.int64),
        )
    )


@pytest.mark.parametrize("halves", [[0] * 4, [1] * 4, [0, 1, 0, 1], [1, 0, 1, 0]])
def test_each_face_is_judged_by_who_never_saw_its_subject(halves: list[int]) -> None:
    assert asked(halves) == ANSWERS
    assert asked(halves, identities=False) == (*ANSWERS[:3], "")


def test_one_subject_is_seen_from_the_least_likeness_on() -> None:
    class Turned(Subject):
        def embed(self, faces_BCHW: Tensor) -> Tensor:
            angle_B = faces_BCHW.flatten()
            return torch.stack([angle_B.cos(), angle_B.sin()], 1)

    angles = torch.tensor([0.0, 1.0, 1.1, 3.1]).view(4, 1, 1, 1)
    same = SameSubject(network=Turned(0), least=0.5)
    assert same(torch.zeros(4, 1, 1, 1), angles).tolist() == [True, True, False, False]
    other = SameSubject(network=Turned(0), least=0.4)
    assert other(angles, torch.zeros(4, 1, 1, 1)).tolist() == [True, True, True, False]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=48, options={"subjects": 9, "faces_per_subject": 16})
    return Lake.open(path)


@pytest.fixture(scope="module")
def data(lake: Lake) -> TrainingData:
    return feed.prepare(RUN, feed.spec_of(RUN), lake, "1/3")


def trained(lake: Lake, data: TrainingData, **frozen: nn.Module) -> CrossFittedGate:
    """The gate of a system with these networks."""
    system = cast(System, SimpleNamespace(frozen=lambda: frozen))
    return CrossFittedGate.train(RUN, system, data, lake, PoolConfig(identity_gate=0.25))


def recorded(monkeypatch: pytest.MonkeyPatch, name: str) -> list[np.ndarray]:
    """The rows that this kind of judge is trained on from now on, by half."""
    seen, make = [], getattr(admission, name)

    def judge(lake: Lake, rows: np.ndarray, *told: Any, **options: Any) -> Any:
        seen.append(rows)
        return make(lake, rows, *told, **options)

    monkeypatch.setattr(admission, name, judge)
    return seen


@pytest.mark.usefixtures("quick_judges")
def test_no_judge_has_seen_the_subjects_that_it_judges(
    lake: Lake, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = [recorded(monkeypatch, name) for name in ("expression_judge", "identity_judge")]
    calibrated: list[np.ndarray] = []

    def equal_error(network: nn.Module, lake: Lake, rows: np.ndarray, *told: Any) -> float:
        calibrated.append(rows)
        return 0.5

    monkeypatch.setattr(admission, "_equal_error", equal_error)
    gate = trained(lake, data)
    subjects, training = np.array(lake.table["subject"].to_pylist()), data.fold.train_rows
    for half in (0, 1):
        judged = training[gate.half_of_row[training] == half]
        assert len(set(subjects[judged])) > 1
        assert set(calibrated[half]) == set(judged)
        for seen in kinds:
            assert set(seen[half]) <= set(training), "a judge saw a subject that is held out"
            assert not set(subjects[seen[half]]) & set(subjects[judged])
            assert set(subjects[seen[half]]) | set(subjects[judged]) == set(subjects[training])
        centre_P = faces_of(lake, kinds[0][half], RUN).flatten(1).mean(0)
        torch.testing.assert_close(gate.spaces[half].mean_P, centre_P, atol=1e-4, rtol=0)
        assert gate.spaces[half](faces_of(lake, judged, RUN)).all()


@pytest.mark.usefixtures("quick_judges")
def test_the_identity_network_of_a_system_judges_by_its_own_bound(
    lake: Lake, data: TrainingData
) -> None:
    own = Subject(0)
    gate = trained(lake, data, identity=own)
    assert gate.identities is not None
    assert {(same.network, same.least) for same in gate.identities} == {(own, 0.25)}


def test_the_halves_divide_the_training_subjects_and_nobody_is_in_both(
    lake: Lake, data: TrainingData
) -> None:
    training = data.fold.train_rows
    half_N = admission._halves(lake, training)
    subjects = np.array(lake.table["subject"].to_pylist())
    halves = [set(subjects[training][half_N[training] == half]) for half in (0, 1)]
    assert not halves[0] & halves[1] and abs(len(halves[0]) - len(halves[1])) <= 1


def test_faces_without_a_subject_are_shared_out_clip_by_clip() -> None:
    table = pa.table(
        {
            "subject": ["a", None, None, "b", None, "a", None, None],
            "sequence": [None, None, "m", None, "m", None, "n", None],
            "sample_id": list("tuvwxyz1"),
        }
    )
    half_N = admission._halves(cast(Lake, SimpleNamespace(table=table)), np.arange(8))
    assert half_N[0] == half_N[5] and half_N[2] == half_N[4]
    assert sorted(half_N[[0, 1, 2, 3, 6, 7]]) == [0, 0, 0, 1, 1, 1]


def test_what_calibrates_the_gate_is_the_same_on_any_number_of_threads() -> None:
    faces = torch.rand(96, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found.append(FaceSpace.fit(faces[:64], [faces[64:]]).state_dict())
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert len({admission.content_hash({"space": one}) for one in found}) == 1
