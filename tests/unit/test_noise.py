from __future__ import annotations

import pytest
import torch

from trainer.noise import keyed_noise, keyed_uniform

KEYS = torch.tensor([3, -7, 2**62, 0], dtype=torch.int64)


def test_noise_is_a_function_of_key_and_label_alone() -> None:
    torch.manual_seed(0)
    first = keyed_noise(KEYS, "latent", (4, 2, 3))
    torch.manual_seed(1)
    torch.rand(5)
    assert torch.equal(first, keyed_noise(KEYS, "latent", (4, 2, 3)))
    assert not torch.equal(first, keyed_noise(KEYS, "other", (4, 2, 3)))


def test_half_a_batch_gets_its_half_of_the_noise() -> None:
    whole = keyed_noise(KEYS, "latent", (4, 5))
    halves = [keyed_noise(KEYS[part], "latent", (2, 5)) for part in (slice(0, 2), slice(2, 4))]
    assert torch.equal(whole, torch.cat(halves))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    keyed_noise(KEYS, "latent", (4, 8))
    assert torch.equal(before, torch.get_rng_state())


def test_uniform_and_normal_numbers_have_their_moments() -> None:
    keys = torch.arange(4096)
    uniform = keyed_uniform(keys, "u", 16)
    assert float(uniform.min()) >= 0 and float(uniform.max()) < 1
    assert float(uniform.mean()) == pytest.approx(0.5, abs=5e-3)
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=2e-3)
    normal = keyed_noise(keys, "n", (4096, 15))
    assert torch.isfinite(normal).all()
    assert float(normal.mean()) == pytest.approx(0, abs=2e-2)
    assert float(normal.std()) == pytest.approx(1, abs=2e-2)
    signed = keyed_noise(keys, "s", (4096, 4), uniform=True)
    assert -1 <= float(signed.min()) < -0.99 and 0.99 < float(signed.max()) < 1


def test_neighbouring_keys_and_positions_are_uncorrelated() -> None:
    normal = keyed_noise(torch.arange(8192), "n", (8192, 2))
    by_key = torch.corrcoef(torch.stack([normal[:-1, 0], normal[1:, 0]]))[0, 1]
    by_position = torch.corrcoef(normal.T)[0, 1]
    assert abs(float(by_key)) < 0.04 and abs(float(by_position)) < 0.04


def test_a_shape_that_is_not_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 4 samples"):
        keyed_noise(KEYS, "latent", (3, 2))
