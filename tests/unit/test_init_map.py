"""First weights under other names: of another system, of a published file, kept with the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from data_service.ingest import ingest
from tests.contract.batches import INFO
from tests.made_runs import finished, recorded
from trainer import catalog, crossval, job, launch
from trainer.checkpoint import load_weights
from trainer.config import RunConfig
from trainer.nets.identity_source import build_identity
from trainer.overrides import with_overrides
from trainer.restore import start_from
from trainer.system import System

WIDTH = 0.05
VGG = {"system.network.shape": "vggface", "system.network.width": WIDTH}
RESNET = {"system.network.width": 0.1}
MAPS = ("a.=player/network/b.", "c.=player/network/d.")


def of(recipe: str, **settings: Any) -> RunConfig:
    return with_overrides(catalog.recipe(recipe), settings)


FACES = of("identity.tiny", **{"system.shape": "vggface", "system.width": WIDTH})
STUDENT = of("occlusion_distillation.tiny", **VGG)


def fresh(run: RunConfig) -> System:
    """The system as it is before it starts from anything; `finished` has other random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return catalog.spec_of(run).build(run.system, INFO)


def state_of(system: System) -> dict[str, Tensor]:
    return {
        f"player/{player.name}/{key}": value.clone()
        for player in system.players()
        for key, value in player.module.state_dict().items()
    }


def started(
    run: RunConfig, weights: Path, *maps: str, **about: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the players keep before and after they start from the weights, as the record says."""
    made = recorded(run, "bbbb", init=weights, init_map=maps, **about)
    system = fresh(run)
    before = state_of(system)
    start_from(job.load(made.directory), system)
    return before, state_of(system)


def weights_of(run: RunConfig, **info: Any) -> Path:
    return finished(run, replace(INFO, **info), "aaaa") / "weights.safetensors"


SHARED = [
    (FACES, STUDENT, "player/network/backbone.=player/teacher/trunk."),
    (
        of("oadn.tiny"),
        of("occlusion_distillation.tiny"),
        "player/network/trunk.=player/teacher/trunk.trunk.",
    ),
    (
        of("baseline.tiny", **{"system.network.shape": "resnet18", **RESNET}),
        of("oadn.tiny", **{"system.network.trunk": "resnet18", **RESNET}),
        "player/classifier/trunk.=player/network/trunk.",
    ),
]


@pytest.mark.parametrize(
    ("source", "run", "text"), SHARED, ids=["faces to VGG", "plain trunk", "ResNet-18"]
)
def test_a_trunk_is_taken_whole_from_another_system(
    source: RunConfig, run: RunConfig, text: str
) -> None:
    old, _, new = text.partition("=")
    weights = weights_of(source)
    before, after = started(run, weights, text)
    theirs = {
        new + name.removeprefix(old): value
        for name, value in load_weights(weights).items()
        if name.startswith(old)
    }
    assert theirs.keys() == {name for name in after if name.startswith(new)}
    for name, value in after.items():
        assert torch.equal(value, theirs.get(name, before[name])), name


def test_one_network_serves_several_and_the_pattern_still_counts() -> None:
    weights = weights_of(FACES)
    maps = [f"player/network/backbone.=player/{name}/trunk." for name in ("teacher", "soft")]
    before, after = started(STUDENT, weights, *maps, init_only="trunk.conv1_*")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {
        f"player/{name}/trunk.conv1_{layer}.weight"
        for name in ("teacher", "soft")
        for layer in (1, 2)
    }


@pytest.mark.parametrize(("text", "dense"), [("={}", True), ("conv={}conv", False)])
def test_bare_names_of_a_published_file(text: str, dense: bool, tmp_path: Path) -> None:
    published = build_identity("vggface", image_size=INFO.image_size, width=WIDTH).state_dict()
    file = tmp_path / "vggface.safetensors"
    save_file({**published, "fc8.weight": torch.zeros(7, 9)}, file)
    before, after = started(STUDENT, file, text.format("player/teacher/trunk."))
    for name, value in published.items():
        here = f"player/teacher/trunk.{name}"
        expected = value if dense or name.startswith("conv") else before[here]
        assert torch.equal(after[here], expected), name


def test_a_mapped_name_counts_more_than_the_same_name() -> None:
    weights = weights_of(STUDENT)
    _, after = started(STUDENT, weights, "player/soft/=player/teacher/")
    given = load_weights(weights)
    for name, value in after.items():
        source = name.replace("player/teacher/", "player/soft/")
        assert torch.equal(value, given[source]), name


WRONG = [
    (
        ("player/netwrok/=player/teacher/",),
        "no weight's name begins with 'player/netwrok/'; names there begin with "
        r"player/network/backbone\., player/network/head\.",
    ),
    (
        ("player/network/backbone.=player/teacher/",),
        r"no parameter player/teacher/conv1_1\.bias; names here begin with player/joined/",
    ),
    (
        (
            "player/network/backbone.conv1_=player/teacher/trunk.conv1_",
            "player/network/backbone.conv1_2.=player/teacher/trunk.conv1_1.",
        ),
        r"trunk\.conv1_1\.\w+ would come from player/network/backbone\.conv1_2\.\w+ and player/",
    ),
    (
        ("player/network/backbone.conv1_=player/teacher/trunk.conv2_",),
        r"0 of 4 tensors fit; player/teacher/trunk\.conv2_1\.bias is \(4,\) there and \(6,\) here",
    ),
    (("player/network/backbone.",), "it must look like OLD=NEW"),
]


@pytest.mark.parametrize(("maps", "says"), WRONG)
def test_a_map_that_cannot_be_meant_is_told_in_one_line(maps: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        started(STUDENT, weights_of(FACES), *maps)
    assert str(caught.value).startswith(f"--init-map {maps[-1]}: ")
    assert "\n" not in str(caught.value)


def test_the_log_says_how_many_fit(caplog: pytest.LogCaptureFixture) -> None:
    text = "player/network/backbone.=player/teacher/trunk."
    weights = weights_of(FACES, image_size=96)
    before, after = started(STUDENT, weights, text)
    assert f"--init-map {text}: 29 of 30 tensors fit; " in caplog.text
    assert "player/teacher/trunk.fc6.weight is (" in caplog.text
    given, name = load_weights(weights), "player/teacher/trunk.fc6.weight"
    assert torch.equal(after[name], before[name])
    assert torch.equal(
        after["player/teacher/trunk.conv1_1.weight"],
        given["player/network/backbone.conv1_1.weight"],
    )


def test_what_begins_a_run_is_written_down_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, file = tmp_path / "lake", tmp_path / "published.safetensors"
    ingest("drawn", None, lake, image_size=56, options={"subjects": 6, "faces_per_subject": 8})
    file.touch()
    tags: dict[str, str] = {}

    def create_run(*_: Any, **told: Any) -> str:
        tags.update(told["tags"])
        return "aaaa"

    monkeypatch.setattr(launch, "create_run", create_run)
    rest: dict[str, Any] = {
        **{"fold": "1/3", "experiment": "test", "validation_only": False, "allow_leaks": False},
        **dict.fromkeys(("name", "parent", "synthetic", "seen_by")),
    }
    run = catalog.recipe("identity.tiny")
    made = launch._new_job(run, lake, init=str(file), init_only="*", init_map=list(MAPS), **rest)
    assert job.load(made.directory).init_map == made.init_map == MAPS
    assert tags["mien.init_map"] == " ".join(MAPS)


def test_every_fold_starts_as_the_cross_validation_says(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = crossval.CrossvalJob(
        run_id="cccc",
        directory=own_home / "runs" / "cccc",
        run=FACES,
        lake=own_home / "lake",
        lake_hash="none",
        folds=3,
        tracking_uri="sqlite:///none.db",
        experiment="test",
        init="given.safetensors",
        init_map=MAPS,
    )
    made.save()
    given: dict[str, Any] = {}
    monkeypatch.setattr(launch, "train", lambda *_, **told: given.update(told))
    crossval._train_fold(crossval.CrossvalJob.find("cccc"), "2/3")
    assert (given["init"], given["init_map"]) == ("given.safetensors", MAPS)
    without_map(made.directory / crossval.RECORD)
    assert crossval.CrossvalJob.find("cccc") == replace(made, init_map=())


def test_a_cross_validation_refuses_before_anything_starts(own_home: Path) -> None:
    for init, says in ((None, "--init-map needs weights"), ("x", "--init-map a: it must look")):
        with pytest.raises(ValueError, match=says):
            crossval.crossval(FACES, own_home / "lake", 3, init=init, init_map=["a"])


def test_a_record_of_before_there_were_maps_is_read() -> None:
    made = recorded(FACES, init=Path("given.safetensors"), init_map=MAPS)
    without_map(made.directory / "run.json")
    assert job.load(made.directory).init_map == ()


def without_map(record: Path) -> None:
    values = json.loads(record.read_text())
    assert values.pop("init_map") == list(MAPS)
    record.write_text(json.dumps(values))
