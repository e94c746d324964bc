"""Synthetic faces by Ray actors: the same pool, bit for bit, for any number, also if one dies."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import psutil
import pytest

from data_service.attempts import on_ray
from data_service.ingest import ingest
from data_service.pool import SealedPool
from trainer import catalog, launch
from trainer.overrides import with_overrides
from trainer.synthesise import synthesise

pytestmark = pytest.mark.usefixtures("ray_session")


class Murder:
    """Kills an actor when the first faces are there."""

    def __init__(self) -> None:
        self.hurt: psutil.Process | None = None

    def __call__(self, admitted: int, wanted: int) -> None:
        if self.hurt is None:
            ours = psutil.Process().children(recursive=True)
            self.hurt = next(one for one in ours if "ray::_Actor" in " ".join(one.cmdline()))
            self.hurt.kill()


def test_any_number_of_actors_makes_the_same_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.admission.JUDGE_IMAGES", 2048)
    lake = tmp_path / "lake"
    ingest("drawn", None, lake, image_size=48, options={"subjects": 8, "faces_per_subject": 20})
    recipe = with_overrides(catalog.recipe("pixel_fes.tiny"), {"system.images": 320})
    run = launch.train(recipe, lake, fold="1/3").run_id
    pools: list[SealedPool] = []
    murder = Murder()
    for actors, progress in ((0, None), (1, None), (2, murder)):
        out = tmp_path / f"{actors}"
        pool = synthesise(run, lake, out, until=60, gate=0.2, actors=actors, progress=progress)
        pools.append(pool)
    assert murder.hurt is not None, "there was an actor to kill"
    assert len(pools[0]) > 100 and pools[0].manifest.refused
    files = [{one.name: one.read_bytes() for one in pool.path.iterdir()} for pool in pools]
    assert files[0] == files[1] == files[2]


def test_more_actors_than_cpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"99 actors; valid: 1 to \d+, the CPUs"):
        with on_ray(tmp_path, islice, 99):  # type: ignore[arg-type]
            pass
