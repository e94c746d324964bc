"""What a run trains on: fold, classes, the plan over all stages, the stream of batches."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from data_service.folds import ALL, OFFICIAL, Fold, class_codes, named_split, parse_fold
from data_service.lakes import columns
from data_service.lakes.lake import Lake
from data_service.lakes.window import Window
from data_service.planning.needs import DataNeeds
from data_service.planning.plan import Plan, StagePlan
from data_service.planning.synthetic_slots import MOST_REPEATS, most_share
from data_service.schema import PLACED, DatasetInfo, Expression, FaceBatch
from data_service.streaming.batches import to_batch
from data_service.streaming.source import FaceSource
from data_service.streaming.stream import open_stream
from data_service.synthesis.live_pool import LivePool, open_pool
from data_service.synthesis.pool import SealedPool
from trainer import catalog
from trainer.config import RunConfig
from trainer.job import Job, classes_of
from trainer.system import Stage, SystemSpec
from trainer.worker_counts import check_counts, counts_of
from trainer.world import World

if TYPE_CHECKING:
    from trainer.training import Training

LOG = logging.getLogger(__name__)

DEFAULT_FOLD = "1/10"
Pool = SealedPool | LivePool
WITHOUT_CLASSES = frozenset({"identify", "attributes"})
"""What can be learnt of faces whose expression nobody told."""
ANGLES = {"yaw", "pitch", "roll", "camera"}
"""Attributes in degrees, which nobody has or lacks."""
_NUMBERS_LANDMARK = 3


@dataclass(kw_only=True, slots=True, eq=False)
class TrainingData:
    """The split and classes of a run, and what its system is built for."""

    fold: Fold
    info: DatasetInfo
    needs: DataNeeds

    @property
    def classes(self) -> tuple[Expression, ...]:
        """The run's classes, in the order of their indices."""
        return self.info.classes


def default_fold(lake: Lake) -> str:
    """The corpus' own split where it has one, else the first of ten folds by subject."""
    parts = set(lake.table["split"].unique().to_pylist())
    return OFFICIAL if {"train", "test"} <= parts else DEFAULT_FOLD


def check_fold(fold: str) -> None:
    """ValueError where the text names no fold; see `split`."""
    outer, nested, inner = fold.partition(":")
    if outer != OFFICIAL and not (nested and outer == ALL):
        parse_fold(outer)
    if nested:
        parse_fold(inner)


def split(lake: Lake, fold: str, classes: tuple[Expression, ...]) -> Fold:
    """The rows of `K/N`, or of the split that the corpus delivers (`official`); without classes
    all of them. `K/N:k/n` is fold k of n of the subjects that fold K of N does not test,
    `official:k/n` of those that the corpus does not, `all:k/n` of all."""
    return named_split(lake.table, fold, classes or None)


def prepare(run: RunConfig, spec: SystemSpec, lake: Lake, fold: str) -> TrainingData:
    """Split the lake for the run. ValueError where lake, fold and settings do not fit."""
    check_fold(fold)
    lake.require_size(run.data.image_size)
    classes = _classes(run, spec, lake)
    if run.data.labels == "votes" and not columns.votes(lake.table, classes).any():
        raise ValueError(f"data.labels is votes, but {lake.path} has no votes; valid: given")
    rows = split(lake, fold, classes)
    needs = spec.data(run.system)
    subjects = set(lake.table["subject"].take(rows.train_rows).to_pylist()) - {None}
    channels = 1 if run.data.grey else lake.manifest.channels
    info = DatasetInfo(
        classes=classes,
        image_size=run.data.image_size,
        channels=channels,
        subjects=len(subjects),
        attributes=_attributes(lake, needs) if "attributes" in needs.fields else (),
        landmarks=_num_landmarks(lake) if "landmarks" in needs.fields else 0,
        class_images=_class_images(lake, rows, classes),
    )
    if spec.capabilities & {"recognise", "synthesise"}:
        _check_classes(info, fold)
    return TrainingData(fold=rows, info=info, needs=needs)


def _classes(run: RunConfig, spec: SystemSpec, lake: Lake) -> tuple[Expression, ...]:
    """The classes of the run; ValueError where they are too few for the system."""
    classes = classes_of(run, lake.manifest.classes)
    if not classes and not spec.capabilities <= WITHOUT_CLASSES:
        raise ValueError(f"{lake.path} has no face with an expression, which {spec.name} needs")
    if "synthesise" in spec.capabilities and len(classes) < 2:
        raise ValueError(
            f"{spec.name} gives faces another expression and needs two classes or more; a run of "
            f"{', '.join(classes)} alone on {lake.path} has none to give"
        )
    return classes


def _check_classes(info: DatasetInfo, fold: str) -> None:
    """ValueError where a class has no training face: what is never seen is never learnt."""
    pairs = zip(info.classes, info.class_images, strict=True)
    lacking = [str(name) for name, count in pairs if not count]
    if lacking:
        rest = ",".join(str(name) for name in info.classes if str(name) not in lacking)
        raise ValueError(
            f"fold {fold} trains on no face of {', '.join(lacking)}: all of its subjects are held "
            f"out; take other folds, or leave it out with --set data.classes={rest}"
        )


def _class_images(lake: Lake, fold: Fold, classes: tuple[Expression, ...]) -> tuple[int, ...]:
    if not classes:
        return ()
    codes = class_codes(lake.table, classes)[np.asarray(fold.train_rows)]
    return tuple(np.bincount(codes, minlength=len(classes)).tolist())


def _attributes(lake: Lake, needs: DataNeeds) -> tuple[str, ...]:
    """The attributes that are needed, by default all of the lake but for how the head or the camera
    stands; ValueError where one is missing.

    The order is that of the needs, by default the alphabet's.
    """
    names = {key for row in lake.table["attributes"].to_pylist() for key, _ in row or ()}
    if not names - (ANGLES - set(needs.attributes)):
        raise ValueError(f"{lake.path} has no attributes, which this system learns")
    if missing := [name for name in needs.attributes if name not in names]:
        raise ValueError(
            f"{lake.path} has no attribute {', '.join(missing)}; it has {', '.join(sorted(names))}"
        )
    return needs.attributes or tuple(sorted(names - ANGLES))


def _num_landmarks(lake: Lake) -> int:
    """How many landmarks the faces have that have any; ValueError where that differs."""
    counts = {len(row or ()) // _NUMBERS_LANDMARK for row in lake.table["landmarks"].to_pylist()}
    counts -= {0}
    if not counts:
        raise ValueError(f"{lake.path} has no landmarks, which this system needs")
    if len(counts) > 1 or counts - {5, 68}:
        found = ", ".join(map(str, sorted(counts)))
        raise ValueError(f"{lake.path} has faces with {found} landmarks; valid: 5 or 68, all alike")
    return counts.pop()


def spec_of(run: RunConfig) -> SystemSpec:
    """The spec of the run's system."""
    return catalog.load(run.system_name)


def check_system(
    run: RunConfig, spec: SystemSpec, data: TrainingData, lake: Lake, pool: Pool | None
) -> None:
    """Build the system once and let go of it, so that what does not fit is said at once."""
    _check_select(run, spec, data)
    stages = _stages(run, spec, data)
    check_counts(run, data.needs, stages)
    if pool is not None:
        plan_of(run, data, lake, stages, pool)
    synthesis_stage(run, stages)
    _tell_of_aligned(spec, data.needs, lake)


def _check_select(run: RunConfig, spec: SystemSpec, data: TrainingData) -> None:
    """ValueError where weights are to be chosen by a metric that no validation will have."""
    select = run.evaluation.select
    if select == "last":
        return
    lacking = ""
    if not run.evaluation.every_images:
        lacking = "evaluation.every_images is 0, so that nothing is validated"
    elif "recognise" not in spec.capabilities - spec.lacks(run.system):
        lacking = f"{run.system_name}.{run.recipe} recognises no expressions"
    elif not len(data.fold.validation_rows):
        lacking = "the fold has no validation faces"
    if lacking:
        raise ValueError(f"evaluation.select is {select}, but {lacking}; valid: last")


def _tell_of_aligned(spec: SystemSpec, needs: DataNeeds, lake: Lake) -> None:
    """The log says where a system of unaligned faces gets those that the ingest aligned.

    Whether faces that were taken as delivered are aligned, a lake does not know.
    """
    if not needs.unaligned:
        return
    manifest = lake.manifest
    if placed := sum(manifest.alignments.get(way, 0) for way in PLACED):
        told = "%s is meant for faces that nobody aligned; of the %d of %s the ingest aligned %d"
        LOG.warning(told, spec.name, manifest.count, lake.path, placed)


def _stages(run: RunConfig, spec: SystemSpec, data: TrainingData) -> tuple[Stage, ...]:
    with torch.random.fork_rng(devices=[]):
        return spec.build(run.system, data.info).stages()


def worker_counts(job: Job) -> tuple[int, ...]:
    """How many workers the run may have, the most first; ValueError where none can.

    They share every batch equally, as `trainer.worker_counts` tells.
    """
    run, spec = job.run, spec_of(job.run)
    data = prepare(run, spec, Lake.open(job.lake), job.fold)
    stages = _stages(run, spec, data)
    if not (counts := counts_of(run, data.needs, stages)):
        check_counts(run, data.needs, stages)
    return counts


def given_pool(
    run: RunConfig, path: Path | None, lake: Lake, data: TrainingData, fold: str
) -> Pool | None:
    """The whole and unchanged pool that the run is to be trained with, if it is given one.

    ValueError where it is not this lake's in this fold, where a share needs one and none is given,
    or where the run makes its own.
    """
    if path is None:
        refuse_share(run, "without a pool; give one: --synthetic POOL, by `mien synthesise`")
        return None
    if run.synthesis is not None:
        raise ValueError(
            f"{run.system_name}.{run.recipe} makes its own synthetic faces; without --synthetic, "
            "or another recipe"
        )
    pool = open_pool(path)
    pool.require(lake, data.fold, fold)
    if isinstance(pool, LivePool):
        return pool
    pool.verify()
    _require_enough(pool, run.data.synthetic_share, len(data.fold.train_rows))
    return pool


def _require_enough(pool: SealedPool, share: float, real: int) -> None:
    """ValueError where the share would show the pool's faces far more often than real ones."""
    most = float(most_share(real, len(pool)))
    if share > most:
        raise ValueError(
            f"the pool at {pool.path} has {len(pool)} faces beside {real} real ones; a share of "
            f"{share:g} would show each more than {MOST_REPEATS} times as often as a real one; "
            f"valid: up to {math.floor(100 * most) / 100:g}"
        )


def refuse_share(run: RunConfig, why: str) -> None:
    """ValueError, with `why`, where the run asks for faces of a pool."""
    if run.data.synthetic_share:
        raise ValueError(f"data.synthetic_share is {run.data.synthetic_share}, {why}")


def synthesis_stage(run: RunConfig, stages: tuple[Stage, ...]) -> int | None:
    """The index of the stage before which synthetic faces are made; None without FES-DA."""
    if run.synthesis is None:
        return None
    names = [stage.name for stage in stages]
    if run.synthesis.stage not in names[1:]:
        raise ValueError(
            f"synthesis.stage is '{run.synthesis.stage}'; valid: {', '.join(names[1:]) or 'none'}"
        )
    return names.index(run.synthesis.stage)


def plan_of(
    run: RunConfig,
    data: TrainingData,
    lake: Lake,
    stages: tuple[Stage, ...],
    pool: Pool | None,
) -> Plan:
    """The plan over all stages."""
    return Plan(
        lake.table,
        data.fold,
        data.info.classes,
        [StagePlan(images=stage.images, needs=_needs(run, data, stage)) for stage in stages],
        run.data.global_batch_images,
        run.seed,
        pool.table if isinstance(pool, SealedPool) else pool,
        run.data.labels,
        Window.of(lake.manifest, run.data.window_mib),
    )


def _needs(run: RunConfig, data: TrainingData, stage: Stage) -> DataNeeds:
    """What the stage needs, with the run's share of synthetic faces where it has one."""
    needs = stage.data or data.needs
    share = run.data.synthetic_share
    return dataclasses.replace(needs, synthetic_share=share) if share else needs


@contextlib.contextmanager
def open_batches(
    data: TrainingData,
    lake: Lake,
    pool: Pool | None,
    training: Training,
    before_stage: int | None,
) -> Iterator[Iterator[FaceBatch]]:
    """This rank's batches from where the training stands to its end, or to a stage's border."""
    run, world = training.run, training.world
    plan = plan_of(run, data, lake, training.stages, pool)
    source = FaceSource(
        lake=lake.path,
        plan=plan,
        side=run.data.image_size,
        augment=run.data.augment,
        pool=pool.path if isinstance(pool, SealedPool) else pool,
        attributes=data.info.attributes,
    )
    stop = plan.num_steps if before_stage is None else plan.steps_of(before_stage).start
    with open_stream(
        source,
        start=training.progress.step,
        stop=stop,
        rank=world.rank,
        world=world.size,
        prefetch=run.data.prefetch_batches,
        kind=_kind(run, world),
    ) as packed:
        yield (
            to_batch(item, world.device, run.data.augment, grey=run.data.grey) for item in packed
        )


def _kind(run: RunConfig, world: World) -> Literal["local", "ray"]:
    """Ray Data beside Ray Train's workers; a thread where one process trains alone.

    Ray Data's scheduler is a thread of the process that reads, and takes the interpreter's lock
    from a lone process for nothing.
    """
    if run.data.stream != "auto":
        return run.data.stream
    return "ray" if world.size > 1 else "local"
