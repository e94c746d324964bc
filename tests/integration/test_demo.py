"""`make demo`, from the drawing to the gallery."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("ray")]


def test_the_demo_ends_with_a_comparison_and_a_gallery(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo"],
        cwd=ROOT,
        env={**os.environ, "MIEN_DEMO": str(folder)},
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for told in ("accuracy on unseen subjects", "best:", "The whole way in", "mien server start"):
        assert told in done.stdout
    with Image.open(folder / "gallery.png") as picture:
        columns = np.asarray(picture.convert("L"), np.float32)
    assert columns.std() > 20, "the gallery is blank"
