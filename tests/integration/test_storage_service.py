"""A lake, a pool and checkpoints in a storage service: a run goes on though its home is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage import Place
from data_service.ingest import ingest
from data_service.lakes.elsewhere import lake_place
from tests.made_runs import killed_run
from tests.s3 import s3_bucket
from trainer import catalog, launch
from trainer.overrides import with_overrides
from trainer.synthetic.synthesise import synthesise

IMAGES, KILLED_AFTER = 320, 7


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An address below which everything may be written."""
    with s3_bucket(monkeypatch, tmp_path / "s3.log") as address:
        yield address


def moved(folder: Path, address: str) -> str:
    """The address of what lay in the folder."""
    place = Place.at(address) / folder.name
    for file in folder.iterdir():
        if file.is_file() and file.name != "lock":
            place.send(file)
    shutil.rmtree(folder)
    return place.address


def test_a_run_goes_on_from_copies_in_a_service(
    tmp_path: Path, bucket: str, quick_judges: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lake"
    ingest("drawn", None, folder, image_size=48, options={"subjects": 6, "faces_per_subject": 16})
    lake = lake_place(Path(moved(folder, f"{bucket}/lakes")))
    assert lake is not None
    maker = with_overrides(catalog.recipe("pixel_fes.tiny"), {"system.images": IMAGES})
    generator = launch.train(maker, lake, fold="1/3")
    made = synthesise(generator.run_id, lake, tmp_path / "pool", until=14, gate=0.0)
    pool = moved(made.path, f"{bucket}/pools")
    values = {
        "system.images": IMAGES,
        "data.synthetic_share": 0.3,
        "checkpoint.every_steps": 2,
        "checkpoint.copy_to": f"{bucket}/runs",
    }
    run = with_overrides(catalog.recipe("baseline.tiny"), values)
    alone = launch.train(run, lake, fold="1/3", synthetic=pool)

    given = {"fold": "1/3", "synthetic": pool}
    killed = killed_run(run, lake, monkeypatch, step=KILLED_AFTER, **given)
    shutil.rmtree(killed)
    resumed = launch.train(run, lake, resume=f"{bucket}/runs/{killed.name}")

    assert (resumed.status, resumed.ledger) == ("finished", alone.ledger)
    weights = [one.directory / "weights.safetensors" for one in (alone, resumed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    copies = Place.at(f"{bucket}/runs/{killed.name}/checkpoints").folders()
    assert copies == [path.name for path in sorted((killed / "checkpoints").glob("[0-9]*"))]
