"""A lake at an address: a folder stands for it, and each node keeps a checked copy of its files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage import _holds_a_secret
from data_service.audit import audited
from data_service.audit.findings import AUDIT, Pair
from data_service.ingest import ingest
from data_service.lakes.elsewhere import ADDRESS, lake_place
from data_service.lakes.lake import Lake
from data_service.lakes.unpacked import cache_dir


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """A lake; `file://` is the address of a service that needs no network."""
    ingest("drawn", None, tmp_path / "away", image_size=32, options={"subjects": 3})
    return tmp_path / "away"


def at(folder: Path) -> Path:
    """The place as the command line gets it: a Path, which has lost a slash."""
    place = lake_place(Path(f"file://{folder}"))
    assert place is not None
    return place


def test_it_is_the_lake_that_lies_there(away: Path) -> None:
    place = at(away)
    assert place != away and not list(place.glob("*.parquet"))
    here, there = Lake.open(place), Lake.open(away)
    assert here.hash == there.hash and here.table.equals(there.table)
    assert (here.faces == there.faces).all()
    here.verify()


def test_a_node_copies_it_once(away: Path) -> None:
    place = at(away)
    Lake.open(place)
    shutil.rmtree(away)
    assert len(Lake.open(place).faces)
    shutil.rmtree(cache_dir())
    with pytest.raises((ValueError, FileNotFoundError)):
        Lake.open(place)


def test_what_changed_on_the_way_is_refused_and_not_kept(away: Path) -> None:
    place = at(away)
    (file,) = away.glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged lake at file://.*parquet has changed"):
        Lake.open(place)
    assert not list(cache_dir().glob("*/files/*.parquet"))


def test_a_strangers_audit_is_not_taken_over(away: Path) -> None:
    own = audited(Lake.open(away))
    forged = replace(own, pairs=(Pair(first=0, second=1, likeness=1.0),))
    assert forged != own
    forged.write(away)
    place = at(away)
    assert not (place / AUDIT).exists()
    assert audited(Lake.open(place)) == own


def test_an_address_without_a_lake_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no lake at file:///.*there is no manifest\.json"):
        at(tmp_path)
    with pytest.raises(ValueError, match="pyarrow cannot read nosuch://host/lake"):
        lake_place(Path("nosuch://host/lake"))


def test_a_secret_does_not_get_onto_the_disk(own_home: Path) -> None:
    with pytest.raises(ValueError, match="must not hold a name or password") as refused:
        lake_place(Path("s3://me:word@bucket/lake"))
    assert "word@" not in str(refused.value) and not list(own_home.rglob(ADDRESS))


@pytest.mark.parametrize(
    "address",
    [
        "abfs://container@account.dfs.core.windows.net/lake?client_secret=word",
        "abfs://account:word@container/lake",
        "s3://bucket/lake?secret_key=word",
    ],
)
def test_a_secret_is_known_wherever_it_stands(address: str) -> None:
    with pytest.raises(ValueError, match="must not hold a name or password"):
        lake_place(Path(address))


def test_a_container_is_no_name() -> None:
    assert not _holds_a_secret("abfs://container@account.dfs.core.windows.net/lake")


def test_a_folder_is_itself() -> None:
    assert lake_place(Path("lakes/photos")) == Path("lakes/photos")
    assert lake_place(None) is None
