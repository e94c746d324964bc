"""First weights: which are taken, and which would have seen the subjects that are to be tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer import catalog, job
from trainer.ancestry import first_weights


def finished(home: Path, run_id: str, lake_hash: str, fold: str, init: Path | None = None) -> Path:
    """A run on disk with (empty) weights; the path of those."""
    made = job.Job(
        run_id=run_id,
        directory=home / "runs" / run_id,
        run=catalog.recipe("identity.tiny"),
        lake=home / "lake",
        lake_hash=lake_hash,
        face_pixels=64,
        fold=fold,
        tracking_uri="sqlite:///none.db",
        experiment="test",
        init=init,
    )
    job.save(made)
    weights = made.directory / "weights.safetensors"
    weights.touch()
    return weights


def test_a_run_of_another_lake_or_of_the_same_fold_is_taken(own_home: Path) -> None:
    weights = finished(own_home, "aaaa", "drawn", "1/5")
    assert first_weights("aaaa", "photos", "2/5") == weights
    assert first_weights("aaaa", "drawn", "1/5") == weights
    assert first_weights(str(weights), "photos", "2/5") == weights


@pytest.mark.parametrize("fold", ["2/5", "1/10", None])
def test_a_run_of_another_fold_of_the_same_lake_is_refused(
    own_home: Path, fold: str | None
) -> None:
    weights = finished(own_home, "aaaa", "photos", "1/5")
    for init in ("aaaa", str(weights)):
        with pytest.raises(ValueError, match=r"aaaa was trained on this very lake in fold 1/5"):
            first_weights(init, "photos", fold)


def test_a_file_outside_of_a_run_is_taken(own_home: Path, tmp_path: Path) -> None:
    weights = tmp_path / "published.safetensors"
    weights.touch()
    assert first_weights(str(weights), "photos", "1/5") == weights


def test_what_the_first_weights_started_from_counts_as_well(own_home: Path) -> None:
    oldest = finished(own_home, "aaaa", "photos", "1/5")
    middle = finished(own_home, "bbbb", "drawn", "1/5", init=oldest)
    finished(own_home, "cccc", "drawn", "1/5", init=middle)
    with pytest.raises(ValueError, match="aaaa was trained on this very lake"):
        first_weights("cccc", "photos", "2/5")


def test_weights_that_are_not_there_are_named(own_home: Path, tmp_path: Path) -> None:
    finished(own_home, "aaaa", "drawn", "1/5").unlink()
    with pytest.raises(ValueError, match="aaaa has no finished weights"):
        first_weights("aaaa", "photos", "1/5")
    with pytest.raises(ValueError, match="there is no file"):
        first_weights(str(tmp_path / "none.safetensors"), "photos", "1/5")
