"""Every system can be exported, for any number of faces, just by existing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.contract import batches as made_of
from trainer import catalog, export
from trainer.restore import LoadedSystem


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.names())
def test_a_traced_system_says_the_same_of_any_number_of_faces(name: str) -> None:
    run = made_of.tiny(name)
    loaded = LoadedSystem(
        system=made_of.build(run),
        run=run,
        info=made_of.info_of(run),
        spec=catalog.spec_of(run),
        directory=Path(),
    )
    model = export.Exportable(loaded).eval()
    program = export._program(model, export._example(loaded, model, 2)).module()
    for count in (1, 5):
        given = export._example(loaded, model, count)
        with torch.no_grad():
            pairs = zip(program(*given), model(*given), strict=True)
        for found, expected in pairs:
            assert len(found) == count
            assert torch.allclose(found, expected, atol=1e-4)
