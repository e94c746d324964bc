from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.contract.ranks import Ranks


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """The shared group of two ranks."""
    group = Ranks()
    yield group
    group.close()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
