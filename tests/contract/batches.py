"""Batches for any system, made from what its DataNeeds ask for; no lake, no stream."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from data_service.schema import DatasetInfo, Expression, FaceBatch
from trainer import catalog, loop
from trainer.config import RunConfig
from trainer.config import weights_of as schedules_of
from trainer.engines import TorchEngine, trained_parameters
from trainer.loop import begin
from trainer.noise import keyed_uniform
from trainer.overrides import knobs, with_overrides
from trainer.schedules import Ramp, value_at
from trainer.system import DataNeeds, System
from trainer.training import Training
from trainer.world import World

BATCH_IMAGES = 8
GRAIN = 0.15
INFO = DatasetInfo(
    classes=(Expression.ANGER, Expression.HAPPINESS, Expression.NEUTRAL),
    image_size=48,
    channels=3,
    subjects=5,
    attributes=("glasses", "beard"),
    landmarks=68,
    class_images=(40, 90, 160),
)


def tiny(name: str, *, ramps: bool = False, **overrides: Any) -> RunConfig:
    """The system's tiny recipe, with a random identity network.

    What starts later plays at once, unless `ramps` are to be left as they are.
    """
    run = catalog.recipe(f"{name}.tiny")
    known = {knob.path for knob in knobs(run)}
    chosen: dict[str, Any] = {
        **{
            f"system.weights.{term}": max(schedule.start, schedule.end)
            for term, schedule in schedules_of(run).items()
            if isinstance(schedule, Ramp) and not ramps
        },
        "data.global_batch_images": BATCH_IMAGES,
        "system.identity_network": "random",
        "system.identity_width": 0.125,
        **overrides,
    }
    return with_overrides(run, {path: value for path, value in chosen.items() if path in known})


def info_of(run: RunConfig) -> DatasetInfo:
    """The test's data at the image size of the run."""
    channels = 1 if run.data.grey else INFO.channels
    return replace(INFO, image_size=run.data.image_size, channels=channels)


def build(run: RunConfig) -> System:
    """The system with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return catalog.load(run.system_name).build(run.system, info_of(run))


def training(run: RunConfig, world: World, steps_per_stage: int = 2) -> Training:
    """A training whose stages last `steps_per_stage` steps each."""
    made = begin(run, build(run), world)
    made.stages = tuple(
        replace(stage, images=steps_per_stage * made.batch_images(stage)) for stage in made.stages
    )
    made.progress = replace(made.progress, stage_total=made.stages[0].images)
    return made


def needs_of(made: Training, stage_index: int) -> DataNeeds:
    """What the plan would have to supply in that stage."""
    own = made.stages[stage_index].data
    return own or catalog.load(made.run.system_name).data(made.run.system)


def batches(made: Training) -> Iterator[FaceBatch]:
    """This rank's batches from where the training stands to its end."""
    info = info_of(made.run)
    while True:
        progress = made.progress
        stage = min(progress.stage, len(made.stages) - 1)
        if progress.stage_images >= made.stages[stage].images:
            stage = min(stage + 1, len(made.stages) - 1)
        count = made.batch_images(made.stages[stage])
        whole = make(needs_of(made, stage), info, count, progress.step)
        share = count // made.world.size
        yield whole.slice(made.world.rank * share, (made.world.rank + 1) * share)


def make(needs: DataNeeds, info: DatasetInfo, count: int, step: int) -> FaceBatch:
    """A global batch as a pure function of the step: coarse blobs, all fields asked for."""
    key_B = torch.arange(count) + 1000 * step
    classes = len(info.classes)
    expression_B = (torch.arange(count) + step) % classes
    target_B = (expression_B + 1 + step % (classes - 1)) % classes
    rules = (needs.partner,) if isinstance(needs.partner, str) else tuple(needs.partner)
    rules = tuple(rule for rule in rules if rule != "none")
    same = {"same_class"}
    partner_expression = {rule: expression_B if rule in same else target_B for rule in rules}
    wanted = set(needs.fields)
    uniform = keyed_uniform(key_B, "fields", 8)
    return FaceBatch(
        faces_BCHW=_faces(key_B, "face", info),
        expression_B=expression_B,
        target_expression_B=expression_B if needs.target == "own" else target_B,
        subject_B=key_B % info.subjects,
        row_B=key_B,
        key_B=key_B,
        synthetic_B=torch.zeros(count, dtype=torch.bool),
        partners={rule: _faces(key_B, rule, info) for rule in rules},
        partner_expression=partner_expression,
        partner_valid={rule: torch.arange(count) % 4 != 3 for rule in rules},
        partner_intensity={
            rule: keyed_uniform(key_B, f"{rule} intensity", 1)[:, 0]
            for rule in (rules if "intensity" in wanted else ())
        },
        partner_attributes={
            rule: (keyed_uniform(key_B, f"{rule} attributes", len(info.attributes)) > 0.5).float()
            for rule in (rules if "attributes" in wanted else ())
        },
        views={view: _faces(key_B, view, info) for view in needs.views},
        intensity_B=uniform[:, 0] if "intensity" in wanted else None,
        landmarks_BL3=_landmarks(key_B, info) if "landmarks" in wanted else None,
        attributes_BA=(uniform[:, 1 : 1 + len(info.attributes)] > 0.5).float()
        if "attributes" in wanted
        else None,
        votes_BK=torch.softmax(uniform[:, :classes], 1) if "votes" in wanted else None,
    )


def _faces(key_B: torch.Tensor, label: str, info: DatasetInfo) -> torch.Tensor:
    """Coarse blobs under grain: flat maps would blow up rounding in instance norms."""
    size = (info.image_size, info.image_size)
    shape = (len(key_B), info.channels)
    coarse = keyed_uniform(key_B, label, info.channels * 36).view(*shape, 6, 6) * 2 - 1
    grain = keyed_uniform(key_B, f"{label} grain", info.channels * size[0] * size[1]) * 2 - 1
    blobs = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    return (1 - GRAIN) * blobs + GRAIN * grain.view(*shape, *size)


def _landmarks(key_B: torch.Tensor, info: DatasetInfo) -> torch.Tensor:
    points = keyed_uniform(key_B, "landmarks", info.landmarks * 3)
    points_BL3 = points.view(len(key_B), info.landmarks, 3)
    places_BL2 = points_BL3[..., :2] * (info.image_size - 1)
    return torch.cat([places_BL2, points_BL3[..., 2:]], dim=2)


def weights_of(made: Training) -> dict[str, torch.Tensor]:
    """A copy of all players' parameters and buffers, and of the system's own state."""
    found = {
        f"{name}/{key}": value.detach().clone()
        for name, player in made.players.items()
        for key, value in player.module.state_dict().items()
    }
    own = made.system.state_dict()
    return found | {f"system/{key}": value.detach().clone() for key, value in own.items()}


def zero_weight(run: RunConfig, name: str) -> RunConfig:
    """The run with one loss weight at zero, also in every stage that overrides it."""
    paths = [knob.path for knob in knobs(run) if knob.path.split(".")[-1] == name]
    paths = [path for path in paths if "weights" in path]
    return with_overrides(run, dict.fromkeys(paths, 0.0))


def gate_switches(run: RunConfig) -> list[str]:
    """The boolean settings below system.gates."""
    found = [knob for knob in knobs(run) if knob.path.startswith("system.gates.")]
    return [knob.path for knob in found if isinstance(knob.default, bool)]


def config_names(section: Any) -> list[str]:
    """The field names of a settings dataclass."""
    return [item.name for item in dataclasses.fields(section)]


def starts_above_zero(schedule: Any) -> bool:
    """Whether a weight is above zero at the start of a stage."""
    return value_at(schedule, 0.0) > 0


def content(module: torch.nn.Module) -> str:
    """A hash of all parameters and buffers."""
    digest = hashlib.blake2b(digest_size=8)
    for value in module.state_dict().values():
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def watch_turns(made: Training, monkeypatch: Any) -> list[tuple[str, set[str]]]:
    """Fills up with (player on turn, players whose content changed) as the training goes on."""
    moved: list[tuple[str, set[str]]] = []
    backward = loop._backward
    before = {name: content(player.module) for name, player in made.players.items()}
    playing: list[str] = []

    def note() -> None:
        now = {name: content(player.module) for name, player in made.players.items()}
        changed = {name for name in now if now[name] != before[name]}
        if playing:
            assert changed <= set(playing), f"turns of {playing} changed {changed}"
            moved.extend((name, changed & {name}) for name in playing)
        before.update(now)
        playing.clear()

    def watched(training: Training, stage: Any, turn: Any, *rest: Any) -> Any:
        if turn.player in playing or not _grouped(stage, playing, turn.player):
            note()
        playing.append(turn.player)
        return backward(training, stage, turn, *rest)

    prepare = loop._prepare

    def prepared(training: Training, stage: Any, *rest: Any) -> Any:
        found = prepare(training, stage, *rest)
        if stage.prepares_for:
            own = stage.prepares_for
            before[own] = content(made.players[own].module)
        return found

    advance = loop._advance

    def advanced(*arguments: Any) -> Any:
        note()
        return advance(*arguments)

    monkeypatch.setattr(loop, "_prepare", prepared)
    monkeypatch.setattr(loop, "_backward", watched)
    monkeypatch.setattr(loop, "_advance", advanced)
    return moved


def _grouped(stage: Any, playing: list[str], player: str) -> bool:
    """Whether `player` moves at the same time as those that are playing."""
    return any(
        {*playing, player} <= {turn.player for turn in group}
        for group in stage.groups()
        if len(group) > 1
    )


def watch_gradients(made: Training, monkeypatch: Any) -> Callable[[], list[str]]:
    """What was due a gradient and never got one, over the stages walked so far."""
    missing: dict[tuple[str, str], bool] = {}
    step = TorchEngine.step

    def stepped(engine: TorchEngine, fraction: float) -> None:
        for name, parameter in engine.parameters.items():
            key = (made.stage.name, name)
            has = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            missing[key] = missing.get(key, True) and not has
        step(engine, fraction)

    monkeypatch.setattr(TorchEngine, "step", stepped)
    return lambda: [f"{stage}: {name}" for (stage, name), lacks in missing.items() if lacks]


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The norm of the difference, relative to the norm of all; 0 where nothing is compared."""
    assert left.keys() == right.keys()
    if not left:
        return 0.0
    scale = torch.sqrt(sum((value.double() ** 2).sum() for value in left.values()))
    gap = torch.sqrt(sum(((left[k] - right[k]).double() ** 2).sum() for k in left))
    return float(gap / scale.clamp(min=1e-12))


def with_sgd(world: World, name: str, zero: int | None) -> dict[str, dict[str, torch.Tensor]]:
    """First-step gradients, weights after 20 steps and how far they moved, with SGD for Adam.

    The rate of the 20 steps is small: norms over four faces blow up the last bit of a sum by orders
    of magnitude a step, so that larger ones compare chaos with chaos.
    """
    made = _sgd_training(world, name, zero, rate=1e-5, steps=20)
    before = weights_of(made)
    after = _trained(made)
    return {
        "gradients": gradients(world, name, zero),
        "weights": after,
        "movement": {key: after[key].float() - before[key] for key in after},
    }


def _sgd_training(
    world: World, name: str, zero: int | None, *, rate: float, steps: int, precision: str = "fp32"
) -> Training:
    """A training of at least `steps` steps over all stages."""
    run = tiny(name, **{"engine.zero": zero, "engine.precision": precision})
    made = training(run, world, steps_per_stage=1)
    made.stages = tuple(
        replace(stage, images=-(-steps // len(made.stages)) * made.batch_images(stage))
        for stage in made.stages
    )
    move_by_sgd(made, rate)
    return made


def move_by_sgd(made: Training, rate: float) -> None:
    """Let SGD move all players in place of Adam, which amplifies reordered sums."""
    sgd = {"name": "sgd", "learning_rate": rate, "momentum": 0.9, "clip_norm": 0.0}
    made.players = {
        key: replace(player, optimizer=replace(player.optimizer, weight_decay=0.0, **sgd))
        for key, player in made.players.items()
    }


def gradients(
    world: World, name: str, zero: int | None, precision: str = "fp32"
) -> dict[str, torch.Tensor]:
    """What the first step at rate 1 takes off each player's parameters while the others stand."""
    found: dict[str, torch.Tensor] = {}
    for moving in training(tiny(name), World.alone(), steps_per_stage=1).players:
        made = _sgd_training(world, name, zero, rate=1.0, steps=1, precision=precision)
        made.players = {
            key: player
            if key == moving
            else replace(player, optimizer=replace(player.optimizer, learning_rate=0.0))
            for key, player in made.players.items()
        }
        leave_the_start(made)
        module = made.players[moving].module
        before = {key: value.detach().clone() for key, value in module.named_parameters()}
        next(loop.fit(made, batches(made)))
        after = dict(module.named_parameters())
        found |= {f"{moving}/{key}": before[key] - after[key].detach() for key in before}
    return found


def leave_the_start(made: Training) -> None:
    """Shift all parameters a little, the same on every rank.

    Many networks start on a kink, where the last bit decides between two slopes: an edit that moves
    nothing yet samples exactly between pixels.
    """
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for player in made.players.values():
            for parameter in player.module.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.03 * noise)


def _trained(made: Training) -> dict[str, torch.Tensor]:
    for _ in loop.fit(made, batches(made)):
        pass
    return weights_of(made)


def on_enter_survives(world: World, name: str, zero: int) -> bool:
    """Whether a value that `on_enter` wrote still stands, up to a tiny step, after one step."""
    made = training(tiny(name, **{"engine.zero": zero}), world, steps_per_stage=1)
    if not made.players:
        return True
    player = next(key for key in made.players if made.stages[0].moves(key))
    pattern = made.stages[0].trains.get(player, "*")
    parameter = next(iter(trained_parameters(made.players[player], pattern).values()))

    def write() -> None:
        parameter.data.fill_(0.5)

    made.stages = (replace(made.stages[0], on_enter=write), *made.stages[1:])
    next(loop.fit(made, batches(made)))
    return bool((parameter.detach() - 0.5).abs().max() < 0.05)
