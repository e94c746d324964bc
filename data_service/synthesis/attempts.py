"""Attempts at synthetic faces: made and judged in batches, here or by Ray actors.

What comes of a batch is a function of the batch alone, and every batch is computed by one thread:
so a pool is the same, bit for bit, whoever made which of its batches.

Shapes: B attempts, C channels, S side of the faces that the generator sees, H height, W width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data_service.lakes.lake import Lake
from data_service.transforms import centre_crop

BATCHES_AHEAD = 2
"""Batches in flight for each actor: it never waits for the next one."""


class Synthesiser(Protocol):
    """A trained generator. `hash` names its weights; `side` and `grey` say what it sees."""

    hash: str
    side: int
    grey: bool

    def __call__(self, faces_BCHW: Tensor, target_expression_B: Tensor) -> Tensor:
        """The faces (float32 in [-1, 1], on the CPU) with other expressions, each by itself."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attempts:
    """Synthetic faces before the gate, with what they were made from."""

    made_BCHW: Tensor
    source_BCHW: Tensor
    source_rows: np.ndarray
    target_expression_B: Tensor


class Admission(Protocol):
    """The gate. `hash` names the networks and thresholds that it decides by."""

    hash: str

    @property
    def chance(self) -> Sequence[float]:
        """For each class how often the gate errs: lets a face of another class pass."""
        ...

    def __call__(self, attempts: Attempts) -> tuple[str, ...]:
        """Why each attempt is refused, empty where it is not; each is judged by itself."""
        ...


Makers = Callable[[], tuple[Synthesiser, Admission]]
"""Loads generator and gate in the process that uses them; it is sent to actors."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Work:
    """A batch to be made: the first attempt's number, the class aimed at, the sources' rows."""

    first: int
    klass: int
    source_rows: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Made:
    """What came of a batch: faces as the lake keeps them, and why each is refused, or nothing."""

    faces_BHWC: np.ndarray
    reasons: tuple[str, ...]


Crew = Callable[[Iterable[Work]], Generator[tuple[Work, Made]]]
"""Makes batches of work, in their order; closing the generator drops what is under way."""


class Maker:
    """Makes batches of faces, and has them judged."""

    def __init__(self, lake: Lake, synthesiser: Synthesiser, admission: Admission) -> None:
        self._lake, self._synthesiser, self._admission = lake, synthesiser, admission

    def __call__(self, work: Work) -> Made:
        self._lake.mapped.expect(work.source_rows)
        faces_BHWC = self._lake.faces[work.source_rows]
        target_B = torch.full((len(work.source_rows),), work.klass)
        with one_thread():
            source_BCHW = self._seen(faces_BHWC)
            made_BCHW = self._synthesiser(source_BCHW, target_B)
            attempts = Attempts(
                made_BCHW=made_BCHW.detach().float().cpu().clamp(-1, 1),
                source_BCHW=source_BCHW,
                source_rows=work.source_rows,
                target_expression_B=target_B,
            )
            reasons = self._admission(attempts)
        return Made(faces_BHWC=self._pasted(faces_BHWC, attempts.made_BCHW), reasons=reasons)

    def _seen(self, faces_BHWC: np.ndarray) -> Tensor:
        """Faces as the generator sees them."""
        faces_BCHW = torch.tensor(faces_BHWC).permute(0, 3, 1, 2)
        return centre_crop(faces_BCHW, self._synthesiser.side, grey=self._synthesiser.grey)

    def _pasted(self, source_BHWC: np.ndarray, made_BCHW: Tensor) -> np.ndarray:
        """The synthetic faces in the middle of their sources, whose margins they keep."""
        middle = seen_part(source_BHWC.shape[1], self._synthesiser.side)
        pixels_BCHW = ((made_BCHW + 1) * 127.5).round().to(torch.uint8)
        pasted_BHWC = source_BHWC.copy()
        pasted_BHWC[:, middle, middle] = pixels_BCHW.permute(0, 2, 3, 1).numpy()
        return pasted_BHWC


def seen_part(face_side: int, side: int) -> slice:
    """The rows, and the columns, of a face that a generator sees."""
    start = (face_side - side) // 2
    return slice(start, start + side)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in another order have other last bits; hence always in that of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def here(maker: Maker) -> Crew:
    """A crew of this process."""

    def crew(works: Iterable[Work]) -> Generator[tuple[Work, Made]]:
        for work in works:
            yield work, maker(work)

    return crew


@contextmanager
def on_ray(lake: Path, makers: Makers, actors: int) -> Iterator[Crew]:
    """A crew of actors, each with a CPU and, where the cluster has GPUs, an equal share of one.

    Needs an initialised Ray. ValueError where it has not so many CPUs.
    """
    import ray  # nobody else here needs it

    resources = ray.cluster_resources()
    if not 1 <= actors <= resources.get("CPU", 0):
        raise ValueError(f"{actors} actors; valid: 1 to {resources.get('CPU', 0):.0f}, the CPUs")
    gpus = int(resources.get("GPU", 0))
    share = 1 / -(-actors // gpus) if gpus else 0
    remote = ray.remote(num_cpus=1, num_gpus=share, max_restarts=3, max_task_retries=3)(_Actor)
    given = ray.put((lake, makers))  # held here: Ray starts a dead actor again with nothing less
    members = [remote.remote(given) for _ in range(actors)]

    def crew(works: Iterable[Work]) -> Generator[tuple[Work, Made]]:
        under_way, turns = deque(), cycle(members)
        try:
            for work in works:
                under_way.append((work, next(turns).make.remote(work)))
                if len(under_way) == BATCHES_AHEAD * actors:
                    yield _arrived(under_way)
            while under_way:
                yield _arrived(under_way)
        finally:
            if under_way:
                ray.wait([made for _, made in under_way], num_returns=len(under_way))

    try:
        yield crew
    finally:
        for member in members:
            ray.kill(member)  # pyright: ignore[reportArgumentType] - the proxy of a handle


def _arrived(under_way: deque[tuple[Work, Any]]) -> tuple[Work, Made]:
    """The first batch under way, when it is made."""
    import ray

    work, made = under_way.popleft()
    return work, ray.get(made)


class _Actor:
    def __init__(self, given: tuple[Path, Makers]) -> None:
        lake, makers = given
        self._maker = Maker(Lake.open(lake), *makers())

    def make(self, work: Work) -> Made:
        return self._maker(work)
