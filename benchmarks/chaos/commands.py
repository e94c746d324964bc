"""What is run: a training of few small steps, a search of three such, or a pool's filling."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chaos.trial import PoolTrial, Trial

BATCH, STEPS, SAVE_EVERY = 16, 240, 20
LONG = 4 * STEPS
STUDY, TRIALS = "chaos", 3
FACES, PARTS = 60, 10
"""Of each class in a pool; and of the batches that it is filled by, so many come at least."""


def make_lake(path: Path) -> Path:
    """Drawn faces, a few."""
    from data_service.ingest import ingest

    if not path.exists():
        options = {"subjects": 12, "faces_per_subject": 16}
        ingest("drawn", None, path, image_size=56, options=options)
    return path


def training(home: Path, lake: Path, workers: int, steps: int) -> Trial:
    """A training that has not started; it tells of each step, and saves every 20."""
    fixed = ("train", "identity.tiny", *_given(lake, steps), "--fold", "1/4", "--seed", "7")
    return Trial(home=_new(home), begin=(*fixed, "--workers", str(workers)))


def search(home: Path, lake: Path, steps: int) -> Trial:
    """A search that has not started."""
    begin = ("tune", "baseline.tiny", *_given(lake, steps), "--trials", str(TRIALS))
    begin = (*begin, "--name", STUDY, "--search", "system.weights.classification=0.1:10:log")
    return Trial(home=_new(home), begin=begin, again=(*begin, "--resume"))


def generator(home: Path, lake: Path) -> Trial:
    """A short training, not started, of what then makes the faces of a pool."""
    images = ("--set", "system.images=320")
    begin = ("train", "pixel_fes.tiny", "--lake", str(lake), "--fold", "1/4", *images)
    return Trial(home=_new(home), begin=begin)


def pool(home: Path, lake: Path, generator: Path) -> Trial:
    """The filling of a pool by two actors, not started."""
    wanted = ("--until", str(FACES), "--gate", "0.2", "--actors", "2")
    out = _new(home) / "pool"
    begin = ("synthesise", str(generator), "--lake", str(lake), "--out", str(out), *wanted)
    return PoolTrial(home=home, begin=begin)


def _given(lake: Path, steps: int) -> tuple[str, ...]:
    settings = {
        "system.images": BATCH * steps,
        "data.global_batch_images": BATCH,
        "checkpoint.every_steps": SAVE_EVERY,
        "logging.every_images": BATCH,
        "logging.samples_every_images": 0,
    }
    pairs = [part for path, value in settings.items() for part in ("--set", f"{path}={value}")]
    return ("--lake", str(lake), *pairs)


def _new(home: Path) -> Path:
    home.mkdir(parents=True, mode=0o711)
    return home
