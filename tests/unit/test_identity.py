"""The identity system and the ways to get an identity network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from data_service.schema import DatasetInfo, Expression, FaceBatch
from trainer import catalog
from trainer.losses.perceptual import embedding_distance, feature_distance
from trainer.nets import identity_source
from trainer.nets.identity_source import build_identity, load_identity, verification_auc
from trainer.system import Progress, StepContext

INFO = DatasetInfo(
    classes=(Expression.ANGER, Expression.NEUTRAL), image_size=32, channels=3, subjects=4
)


def test_random_network_is_the_same_each_time_and_leaves_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (load_identity("random", INFO, shape="lightcnn9", width=0.1) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    faces = torch.linspace(-1, 1, 2 * 3 * 40 * 40).view(2, 3, 40, 40)
    assert torch.equal(first.embed(faces), second.embed(faces))
    assert not any(parameter.requires_grad for parameter in first.parameters())
    assert first.embed(faces).norm(dim=1) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("shape", "num_maps"), [("lightcnn9", 4), ("lightcnn29v2", 4), ("vggface", 5)]
)
def test_every_shape_takes_grey_and_colour_of_any_size(shape: str, num_maps: int) -> None:
    network = load_identity("random", INFO, shape=shape, width=0.05)
    for faces in (torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 24, 24), torch.zeros(2, 3, 70, 70)):
        faces.requires_grad_(True)
        assert len(network.features(faces)) == num_maps
        features = identity_source.num_embedding_features(shape, 0.05)
        assert network.embed(faces).shape == (2, features)
        network.features(faces)[-1].sum().backward()
        assert faces.grad is not None


def test_published_sizes() -> None:
    with torch.device("meta"):
        network = build_identity("vggface", image_size=224, width=1.0)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 134_260_544  # 145,002,878 with the classifier over 2,622 subjects


def test_no_network_says_how_to_get_one() -> None:
    with pytest.raises(ValueError, match="mien train identity --lake"):
        load_identity("", INFO, shape="lightcnn9", width=1.0)
    with pytest.raises(ValueError, match="valid: lightcnn9, lightcnn29v2, vggface"):
        load_identity("random", INFO, shape="lightcnn", width=1.0)
    with pytest.raises(ValueError, match="there is no file"):
        load_identity("nowhere.npz", INFO, shape="lightcnn9", width=1.0)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_published_weights_by_file(tmp_path: Path, suffix: str) -> None:
    network = build_identity("lightcnn9", image_size=128, width=0.05)
    published = {
        "module." + name.replace("layers.", "features."): tensor
        for name, tensor in network.state_dict().items()
    }
    published["module.fc2.weight"] = torch.zeros(3, 256)
    path = _written(tmp_path / f"weights{suffix}", published)
    loaded = load_identity(str(path), INFO, shape="lightcnn9", width=0.05)
    assert loaded.image_size == 128
    faces = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    expected = functional.normalize(network.embed(faces), dim=1)
    assert torch.allclose(loaded.embed(faces), expected)
    with pytest.raises(ValueError, match="does not hold lightcnn29v2") as wrong:
        load_identity(str(path), INFO, shape="lightcnn29v2", width=0.05)
    assert "\n" not in str(wrong.value)
    with pytest.raises(ValueError, match=r"does not hold lightcnn9 of width 0\.5: .* is"):
        load_identity(str(path), INFO, shape="lightcnn9", width=0.5)


def _written(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    else:
        torch.save({"state_dict": tensors}, path)
    return path


class _Trap:
    def __reduce__(self):
        return (open, ("/dev/null",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "trap.pth"
    torch.save({"state_dict": _Trap()}, path)
    with pytest.raises(ValueError, match="cannot be read as weights") as refused:
        load_identity(str(path), INFO, shape="lightcnn9", width=1.0)
    assert "\n" not in str(refused.value)
    arrays = tmp_path / "trap.npz"
    np.savez(arrays, first=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_identity(str(arrays), INFO, shape="lightcnn9", width=1.0)
    for suffix in (".safetensors", ".npz", ".pth"):
        half = tmp_path / f"half{suffix}"
        half.write_bytes(b"\x08\x00")
        with pytest.raises(ValueError, match="cannot be read as weights"):
            load_identity(str(half), INFO, shape="lightcnn9", width=1.0)


def test_verification_auc() -> None:
    subjects = np.array(["a", "a", "b", "b", "c", "c"])
    perfect = np.array([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0.1], [0, 0, 1], [0.1, 0, 1]])
    assert verification_auc(perfect, subjects, 0) == 1.0
    assert verification_auc(np.ones((6, 3)), subjects, 0) == 0.5
    assert np.isnan(verification_auc(perfect[:1], subjects[:1], 0))
    rng = np.random.default_rng(0)
    chance = verification_auc(rng.normal(size=(300, 8)), rng.integers(0, 20, 300).astype(str), 3)
    assert chance == pytest.approx(0.5, abs=0.05)


def test_distances_of_features() -> None:
    maps, zeros = (
        [torch.ones(2, 1, 2, 2), torch.full((2, 3), 2.0)],
        [torch.zeros(2, 1, 2, 2), torch.zeros(2, 3)],
    )
    distance = feature_distance(maps, zeros, (1.0, 0.5))
    assert float(distance.sum / distance.count) == 2.0
    unit = torch.eye(2)
    apart = embedding_distance(unit, unit.flip(0))
    assert float(apart.sum / apart.count) == 1.0


def _batch(num_faces: int, seed: int) -> FaceBatch:
    """Each subject is a colour."""
    generator = torch.Generator().manual_seed(seed)
    subject_B = torch.arange(num_faces) % 4
    colour_BC = functional.one_hot(subject_B, 4)[:, :3].float() - 0.5
    noise = 0.1 * torch.randn(num_faces, 3, 32, 32, generator=generator)
    zeros = torch.zeros(num_faces, dtype=torch.long)
    return FaceBatch(
        faces_BCHW=colour_BC[:, :, None, None] + noise,
        expression_B=zeros,
        target_expression_B=zeros,
        subject_B=subject_B,
        row_B=zeros,
        key_B=torch.arange(num_faces),
        synthetic_B=zeros.bool(),
    )


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_it_learns_subjects_and_ignores_unknown_ones(head: str) -> None:
    spec = catalog.load("identity")
    config = replace(spec.recipes["tiny"]().system, width=0.05, head=head, dropout=0.1)
    torch.manual_seed(0)
    system = spec.build(config, INFO)
    (player,), (stage,) = system.players(), system.stages()
    optimizer = torch.optim.Adam(player.module.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        batch = _batch(16, step)
        batch = replace(batch, subject_B=torch.where(batch.key_B == 0, -1, batch.subject_B))
        ctx = StepContext(batch=batch, progress=Progress(), wanted=frozenset({"subject"}))
        term = stage.turns[0].loss(ctx)["subject"]
        assert int(term.count) == 15
        loss = term.sum / term.count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        features_BD = system.predict(_batch(16, 99)).features_BD
    assert verification_auc(features_BD.numpy(), _batch(16, 99).subject_B.numpy(), 0) > 0.95


def test_it_needs_subjects() -> None:
    spec = catalog.load("identity")
    with pytest.raises(ValueError, match="1 known subjects; at least 2"):
        spec.build(spec.recipes["tiny"]().system, replace(INFO, subjects=1))
