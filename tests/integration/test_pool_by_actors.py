"""Synthetic faces by Ray actors: the same pool, bit for bit, for any number; one that dies."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from data_service.ingest import ingest
from data_service.synthesis.attempts import Work, on_ray
from data_service.synthesis.pool import SealedPool
from trainer import catalog, launch
from trainer.overrides import with_overrides
from trainer.synthetic.synthesise import synthesise

pytestmark = pytest.mark.usefixtures("ray_session")


def test_any_number_of_actors_makes_the_same_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.synthetic.admission.JUDGE_IMAGES", 2048)
    lake = tmp_path / "lake"
    ingest("drawn", None, lake, image_size=48, options={"subjects": 8, "faces_per_subject": 20})
    recipe = with_overrides(catalog.recipe("pixel_fes.tiny"), {"system.images": 320})
    run = launch.train(recipe, lake, fold="1/3").run_id
    pools: list[SealedPool] = []
    for actors in (0, 1, 2):
        pool = synthesise(run, lake, tmp_path / f"{actors}", until=60, gate=0.0, actors=actors)
        pools.append(pool)
    assert len(pools[0]) > 100 and pools[0].manifest.refused
    files = [{one.name: one.read_bytes() for one in pool.path.iterdir()} for pool in pools]
    assert files[0] == files[1] == files[2]


def test_more_actors_than_cpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"99 actors; valid: 1 to \d+, the CPUs"):
        with on_ray(tmp_path, islice, 99):  # type: ignore[arg-type]
            pass


def is_actor(process: psutil.Process) -> bool:
    """Also asked of those that are just ending."""
    try:
        return "ray::_Actor" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_an_actor_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """What it is started with is too large for Ray to send along, and must not be let go."""

    class Same:
        hash, side, grey = "generator", 32, False

        def __call__(self, faces_BCHW: Any, target_expression_B: Any) -> Any:
            return faces_BCHW

    class Open:
        hash = "gate"

        def __init__(self, weights: bytes) -> None:
            self.weights = weights

        def __call__(self, attempts: Any) -> tuple[str, ...]:
            return ("",) * len(attempts.source_rows)

    lake, gate = tmp_path / "lake", Open(bytes(1_000_000))
    ingest("drawn", None, lake, image_size=32, options={"subjects": 1, "faces_per_subject": 8})
    works = [Work(first=n, klass=0, source_rows=np.array([n])) for n in range(6)]
    with on_ray(lake, lambda: (Same(), gate), 1) as crew:
        made = crew(iter(works))
        first, _ = next(made)
        (actor,) = filter(is_actor, psutil.Process().children(recursive=True))
        actor.kill()
        assert [first.first, *(work.first for work, _ in made)] == list(range(6))
