"""How many workers a run may have: as many as share every batch of every stage equally.

Equally means that together they train on what one would. Where a system works on every n-th face of
a worker's share alone (`DataNeeds.share_multiple`), a share must hold a multiple of n, so that each
begins with such a face.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.config import RunConfig
from trainer.system import DataNeeds, Stage


def counts_of(run: RunConfig, needs: DataNeeds, stages: Sequence[Stage]) -> tuple[int, ...]:
    """Those from the run's most down to its least that can; `needs` are of stages without own."""
    counts = range(run.engine.workers, run.engine.least - 1, -1)
    return tuple(n for n in counts if _first_unequal(n, run, needs, stages) is None)


def check_counts(run: RunConfig, needs: DataNeeds, stages: Sequence[Stage]) -> None:
    """ValueError where the most or the least workers of the run cannot."""
    for count in (run.engine.workers, run.engine.least):
        found = _first_unequal(count, run, needs, stages)
        if found is None:
            continue
        stage, batch, multiple = found
        fits = [
            n
            for n in range(1, min(batch, 4 * run.engine.workers) + 1)
            if _first_unequal(n, run, needs, stages) is None
        ]
        parts = f" in multiples of {multiple}" if multiple > 1 else ""
        raise ValueError(
            f"stage {stage} has batches of {batch} images, which {count} workers cannot share "
            f"equally{parts}; worker counts that can: {', '.join(map(str, fits))}"
        )


def _first_unequal(
    count: int, run: RunConfig, needs: DataNeeds, stages: Sequence[Stage]
) -> tuple[str, int, int] | None:
    """The stage that so many workers cannot share equally: its name, batch and share's multiple.

    A lone worker shares with nobody.
    """
    for stage in stages:
        own = stage.data or needs
        batch = own.batch_images or run.data.global_batch_images
        if count > 1 and batch % (count * own.share_multiple):
            return stage.name, batch, own.share_multiple
    return None
