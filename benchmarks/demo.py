"""`make demo`: one job through the whole house, on drawn faces, in minutes on two cores.

Draws a corpus, ingests it, trains an identity network, a FERSNet and an ExprGAN (each on two Ray
Train workers with DeepSpeed), searches the loss weights and two gate settings, compares, and leaves
a gallery. Every step prints the command that does the same.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cluster.terminal import say, show, working

FOLDER = Path(os.environ.get("MIEN_DEMO", "demo-out")).absolute()
os.environ["MIEN_HOME"] = str(FOLDER / "mien-home")
os.environ["MIEN_CACHE"] = str(FOLDER / "cache")
os.environ.pop("MLFLOW_TRACKING_URI", None)

SUBJECTS, FACES_PER_SUBJECT, SIZE = 100, 80, 56
IDENTITY_IMAGES, SEARCH_IMAGES = 8192, 512
SHORTER = {
    "fersnet.tiny": {"system.images": 9216},
    "exprgan.tiny": {"system.controller_images": 4096, "system.refinement_images": 8192},
}
"""The demo trains less than the recipes do, to end in minutes."""
SEARCH = (
    "lambda_cls=0.5:8:log",
    "lambda_pix=0.05:2:log",
    "lambda_idn=0.001:0.1:log",
    "lambda_adv=0.001:0.1:log",
    "lambda_exp=0.002:0.2:log",
    "system.gates.granularity=pixel,channel,scalar",
    "system.gates.leak_bias=-2:2",
)
Result = TypeVar("Result")


def step(command: str, work: Callable[[], Result]) -> Result:
    """Say the command, do the work, say how long it took."""
    say(f"\n$ mien {command}")
    started = time.monotonic()
    result = work()
    say(f"  done in {time.monotonic() - started:.0f} s")
    return result


def main() -> None:
    """The demo; its folder is made anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    started = time.monotonic()
    from cluster.session import connect

    with working("demo") as log_file, connect(log_file=log_file):
        _walk()
    say(f"\nThe whole way in {(time.monotonic() - started) / 60:.1f} minutes.")
    say(f"Gallery: {FOLDER / 'gallery.png'}")
    say(f"MLflow's pages: MIEN_HOME={os.environ['MIEN_HOME']} .venv/bin/mien server start")


def _walk() -> None:
    from cluster.home import tracking_uri
    from data_service.ingest import ingest
    from trainer import catalog
    from trainer.launch import RunResult, train
    from trainer.overrides import with_overrides
    from tuning.compare import compare
    from tuning.report import table
    from tuning.search import search

    lake = FOLDER / "lake"
    options = {"subjects": SUBJECTS, "faces_per_subject": FACES_PER_SUBJECT}
    report = step(
        f"ingest drawn --lake lake --size {SIZE} --option subjects={SUBJECTS} "
        f"--option faces_per_subject={FACES_PER_SUBJECT}",
        lambda: ingest("drawn", None, lake, image_size=SIZE, options=options),
    )
    say(f"  {report.faces} faces, {report.rejected} rejected")

    def run(recipe: str, workers: int, **values: object) -> RunResult:
        settings = {"engine.workers": workers, **values}
        chosen = with_overrides(catalog.recipe(recipe), settings)
        return train(chosen, lake, fold="1/5", experiment="demo")

    identity = step(
        f"train identity.tiny --lake lake --fold 1/5 --set system.images={IDENTITY_IMAGES}",
        lambda: run("identity.tiny", 1, **{"system.images": IDENTITY_IMAGES}),
    )
    teacher = {"system.identity_network": identity.run_id}
    trained = {}
    for recipe in ("fersnet.tiny", "exprgan.tiny"):
        trained[recipe] = step(
            f"train {recipe} --lake lake --fold 1/5 --workers 2 "
            + " ".join(f"--set {k}={v}" for k, v in (teacher | SHORTER[recipe]).items()),
            lambda recipe=recipe: run(recipe, 2, **teacher, **SHORTER[recipe]),
        )
        _say(trained[recipe])
    short = with_overrides(
        catalog.recipe("fersnet.tiny"), {**teacher, "system.images": SEARCH_IMAGES}
    )
    found = step(
        "tune fersnet.tiny --lake lake --trials 6 --parallel 2 --search lambda_cls=0.5:8:log ...",
        lambda: search(
            short,
            lake,
            trials=6,
            search=SEARCH,
            objectives=("macro_recall",),
            parallel=2,
            experiment="demo",
        ),
    )
    say(f"  best: {found.best}")
    comparison = step("compare demo", lambda: compare(tracking_uri(), "demo"))
    show({}, [table(comparison)], False)
    step("(gallery)", lambda: _gallery(lake, trained))


def _say(result: object) -> None:
    values = result.as_json()  # type: ignore[attr-defined]
    parts = [f"{values['images_per_second']:.0f} images/s"]
    if "accuracy" in values:
        card = values["accuracy"]
        parts.append(
            f"accuracy on unseen subjects {card['value']:.3f} "
            f"[{card['low']:.3f}, {card['high']:.3f}]"
        )
    say(f"  run {values['run_id']}: {', '.join(parts)}")


def _gallery(lake: Path, trained: dict) -> None:
    """Faces of unseen subjects with every expression by both generators, and rising intensity."""
    import numpy as np
    from PIL import Image

    from data_service.folds import make_folds
    from data_service.lakes.lake import Lake
    from trainer.restore import load_system
    from trainer.scorecard.samples import sample_grid

    opened = Lake.open(lake)
    tests = make_folds(opened.table, 5)[0].test_rows
    grids = []
    for recipe, result in trained.items():
        loaded = load_system(result.run_id)
        grids.append(
            sample_grid(
                loaded.system,
                opened,
                tests,
                loaded.run,
                loaded.info,
                "cpu",
                intensity="intensity" in loaded.spec.capabilities,
            )
        )
        Image.fromarray(grids[-1]).save(FOLDER / f"{recipe}.png")
    width = max(grid.shape[1] for grid in grids)
    padded = [
        np.pad(grid, ((0, 8), (0, width - grid.shape[1]), (0, 0)), constant_values=255)
        for grid in grids
    ]
    Image.fromarray(np.concatenate(padded)).save(FOLDER / "gallery.png")


if __name__ == "__main__":
    sys.exit(main())
