"""What keeps our figures from being comparable with a paper's is said, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import mien
from data_service.folds import VALIDATION_PARTS
from data_service.schema import DatasetInfo, Expression
from tests.made_runs import recorded
from trainer import catalog, departures, feed, launch, peeking, published, reproduce
from trainer.departures import SCRATCH, Start
from trainer.overrides import with_overrides
from trainer.published import Entry
from trainer.scorecard.evaluate import Predictions, read_predictions
from trainer.world import World

TABLES = published.tables()
CLASSES = (Expression.ANGER, Expression.HAPPINESS)
INFO = DatasetInfo(classes=CLASSES, image_size=48, channels=3, subjects=8)
RUN_HERE = sorted(
    {entry for table in TABLES.values() for entry in table.entries if entry.system},
    key=lambda entry: (entry.system, entry.variant, entry.method, entry.figure),
)


def divided(parts: Sequence[str], fold: str = feed.OFFICIAL) -> departures.Divided:
    """A lake of 40 subjects in each part, who have a face of each class."""
    rows = [(part, subject, one) for part in parts for subject in range(40) for one in CLASSES]
    table = pa.table(
        {
            "sample_id": [str(row) for row in range(len(rows))],
            "subject": [f"{part} {subject}" for part, subject, _ in rows],
            "split": [part for part, _, _ in rows],
            "expression": [str(one) for _, _, one in rows],
        }
    )
    lake: Any = SimpleNamespace(table=table)
    return [(lake, {fold: feed.split(lake, fold, CLASSES)})]


def test_who_is_held_out_of_an_official_training_part_is_said() -> None:
    (said,) = departures.of_validation(divided(["train", "test"]))
    held = 40 // VALIDATION_PARTS
    assert said == (
        f"about 1/{VALIDATION_PARTS} of the training subjects held out for validation, "
        f"{2 * (40 - held)} of 80 training faces are left"
    )


def test_a_validation_part_of_the_corpus_is_no_departure() -> None:
    assert departures.of_validation(divided(["train", "validation", "test"])) == []


def test_who_is_held_out_of_folds_by_subject_is_said() -> None:
    """Also where the corpus names a validation part, which these do not heed; means over folds."""
    two = [*divided(["train", "validation"], "1/2"), *divided(["train", "test"], "2/2")]
    (said,) = departures.of_validation(two)
    assert said.startswith(f"about 1/{VALIDATION_PARTS} of the training subjects held out")
    assert said.endswith("70 of 80 training faces of a fold are left")


def line_of(table: str, method: str) -> Entry:
    (found,) = (one for one in TABLES[table].entries if one.method == method)
    return found


def told(entry: Entry, start: Start = SCRATCH, **settings: Any) -> list[str]:
    run = with_overrides(
        catalog.recipe(f"{entry.system}.paper"), {f"system.{k}": v for k, v in settings.items()}
    )
    return departures.of_networks({entry: run}, start)


FN2EN = line_of("oulu", "FN2EN")
FERSNET = line_of("oulu", "FERSNet")
OADN = line_of("rafdb", "OADN")


def test_a_face_network_that_is_random_or_none_is_said() -> None:
    assert told(FN2EN, identity_network="random") == [
        "fn2en: a random identity network, not VGG-Face"
    ]
    assert told(FN2EN) == ["fn2en: no identity network, the figure stands on VGG-Face"]
    assert told(line_of("oulu", "CNN from scratch (BN)")) == []


def test_a_run_as_face_network_is_of_the_user_s_own_making() -> None:
    job = recorded(catalog.recipe("identity.tiny"))
    weights = job.directory / "weights.safetensors"
    weights.touch()
    for source in ("aaaa", str(job.directory), str(weights)):
        (said,) = told(FERSNET, identity_network=source)
        assert said.startswith(
            "fersnet: an identity network of your own making, run aaaa (lightcnn9 of width 0.125), "
            "not LightCNN-9"
        )


def test_a_file_is_the_paper_s_face_network_where_it_has_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "published.safetensors"
    path.touch()
    assert told(FN2EN, identity_network=str(path)) == []
    assert told(FN2EN, identity_network=str(path), identity_shape="lightcnn9") == [
        "fn2en: an identity network that is lightcnn9 of width 1, not VGG-Face"
    ]
    assert told(FERSNET, identity_network=str(path), identity_width=0.25)


def test_first_weights_are_set_against_the_paper_s(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.safetensors"
    path.touch()
    recorded(catalog.recipe("oadn.tiny")).directory.joinpath("weights.safetensors").touch()
    (said,) = told(OADN)
    assert said.startswith("oadn: not pre-trained, the figure stands on a ResNet-50")
    assert told(OADN, Start(init=str(path))) == []
    assert told(OADN, Start(init=str(path), init_only="*trunk*")) == [
        "oadn: starts from *trunk* of those weights alone"
    ]
    (said,) = told(OADN, Start(init="aaaa"))
    assert said.startswith("oadn: starts from weights of your own making, run aaaa, not from a Res")
    scratch = line_of("oulu", "CNN from scratch (BN)")
    assert told(scratch, Start(init="aaaa")) == [
        "fn2en: starts from run aaaa, which the figure does not"
    ]


def test_what_holds_of_several_lines_is_said_once() -> None:
    lines = [line_of("oulu", name) for name in ("FERSNet", "FERSNet with FES-DA")]
    runs = {line: catalog.recipe("fersnet.paper") for line in lines}
    assert len(departures.of_networks(runs, SCRATCH)) == 1


@pytest.mark.parametrize("entry", RUN_HERE, ids=lambda entry: f"{entry.method}-{entry.figure}")
def test_a_line_stands_on_a_face_network_where_its_system_asks_for_one(entry: Entry) -> None:
    name = f"tiny_{entry.variant}" if entry.variant else "tiny"
    run = catalog.recipe(f"{entry.system}.{name}")
    spec = catalog.spec_of(run)
    if entry.identity is None:
        spec.build(run.system, INFO)
        return
    paper: Any = catalog.recipe(f"{entry.system}.paper").system
    assert (paper.identity_shape, paper.identity_width) == (entry.identity.shape, 1.0)
    with pytest.raises(ValueError, match="no identity network is given"):
        spec.build(run.system, INFO)


def test_every_network_that_figures_stand_on_has_a_source() -> None:
    lines = [entry for table in TABLES.values() for entry in table.entries]
    networks = {one for entry in lines for one in (entry.identity, entry.start) if one}
    assert len(networks) == 5 and all(len(one.source) > 10 for one in networks)
    pre_trained = {entry.method for entry in lines if entry.start}
    assert pre_trained == {"FERSNet, BU-4DFE", "FN2EN, FER2013", "OADN"}


GIVEN: dict[str, Any] = {
    "init": "weights.safetensors",
    "init_only": "*trunk*",
    "init_map": ("a.=b.",),
}


@pytest.mark.parametrize("folds", ["official", 3])
def test_first_weights_reach_every_run(folds: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def train(*_: Any, **given: Any) -> Any:
        seen.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "train", train)
    monkeypatch.setattr(reproduce, "crossval", train)
    start = Start(**GIVEN)
    run = catalog.recipe("oadn.tiny")
    with pytest.raises(KeyboardInterrupt):
        tuple(
            reproduce._ours(
                OADN, TABLES["rafdb"], run, [Path("lake")], folds, 1, "test", False, start
            )
        )
    assert {name: seen[0][name] for name in GIVEN} == GIVEN


def test_weights_are_given_to_one_system() -> None:
    with pytest.raises(ValueError, match=r"--init aaaa: .* by --system: fersnet, fn2en"):
        reproduce._check_start([FERSNET, FN2EN], Start(init="aaaa"))
    reproduce._check_start([FERSNET, FN2EN], SCRATCH)


def test_the_command_takes_first_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def run_table(*_: Any, **given: Any) -> dict[str, Any]:
        seen.append(given)
        return {"rows": [], "metric": "accuracy", "differs": []}

    monkeypatch.setattr(reproduce, "reproduce", run_table)
    words = ["reproduce", "rafdb", "--lake", "lakes/rafdb", "--json", "--init", GIVEN["init"]]
    words += ["--init-only", "*trunk*", "--init-map", "a.=b."]
    mien.app(words, prog_name="mien", standalone_mode=False)
    assert {**seen[0], "init_map": tuple(seen[0]["init_map"])}.items() >= GIVEN.items()


@pytest.mark.parametrize("folds", ["0", "-1", "1"])
def test_the_command_takes_two_folds_or_more(folds: str) -> None:
    words = ["reproduce", "ckplus7", "--lake", "lakes/none", "--folds", folds]
    with pytest.raises(Exception, match="greater than or equal to 2"):
        mien.app(words, prog_name="mien", standalone_mode=False)


def test_a_rule_that_peeks_chooses_by_the_table_s_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight faces of one class and two of another, the first look reads one class alone."""
    labels = np.array([0] * 8 + [1] * 2)
    looks = [np.zeros(10, np.int64), np.array([0] * 4 + [1] * 6)]

    def look(*_: Any) -> Predictions:
        rows = np.arange(10)
        logits = np.eye(2)[looks.pop(0)]
        return Predictions(rows=rows, labels=labels, logits=logits, subjects=rows.astype(str))

    monkeypatch.setattr(peeking, "predict_rows", look)
    anything: Any = None
    for _ in range(2):
        peeking.peek(tmp_path, *[anything] * 5, World.alone("cpu"))
    kept = {
        metric: read_predictions(tmp_path / reproduce._files(metric)["peeking"]).predicted
        for metric in ("accuracy", "macro_recall")
    }
    assert kept["accuracy"].sum() == 0 and kept["macro_recall"].sum() == 6
