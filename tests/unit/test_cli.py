"""The command line: what it prints, its exit codes, and what it says of wrong input."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import mien
from cluster import terminal

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("corpora", "ingest", "lake", "systems", "train", "crossval", "tune", "evaluate", "compare"),
    *("reproduce", "transfer", "sweep", "export", "register"),
    *("audit", "synthesise"),
    *("runs", "stop", "edit", "recognise", "doctor"),
    *("server start", "server stop", "server status"),
    *("cluster check", "cluster up", "cluster status", "cluster down", "cluster wait"),
)


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The last line of its output."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def line(self) -> str:
        """Its complaint, without the program's name; it must be one line."""
        lines = [line for line in self.err.splitlines() if not line.startswith("log: ")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("mien: ")
        return lines[0].removeprefix("mien: ")


Mien = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Mien:
    """Runs `mien` with the given words in this process, as `main` does."""

    def run(*words: object) -> Said:
        argv = [str(word) for word in words]
        code = terminal.run(lambda: mien.app(argv, prog_name="mien", standalone_mode=False))
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of few drawn faces of 48 px."""
    from data_service.ingest import ingest

    lake = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, lake, image_size=48, options={"subjects": 6, "faces_per_subject": 8})
    return lake


def photos(folder: Path, rows: str = "", *, header: str = "file,subject,expression") -> Path:
    """A folder in the layout of `photos` with two drawn faces and what `rows` adds."""
    from data_service import corpora

    faces = corpora.scan("drawn", None, {"subjects": 2, "faces_per_subject": 8, "size": 96}).faces
    pictures = corpora.load("drawn").images(faces[:2])  # type: ignore[attr-defined]
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}.png")
    labels = "0.png,anna,happiness\n1.png,ben,anger\n"
    (folder / "labels.csv").write_text(f"{header}\n{labels}{rows}")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(call: Mien, command: str) -> None:
    said = call(*command.split(), "--help")
    assert said.code == 0
    assert f"Example: mien {command}" in " ".join(said.out.split())
    assert "--json" in said.out


def test_help_waits_for_no_heavy_library() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "pyarrow", "numpy", "deepspeed", "cv2")
    code = f"import sys, mien; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_json_is_one_object_in_the_last_line(call: Mien, drawn: Path) -> None:
    found = call("lake", drawn, "--json")
    assert found.code == 0
    assert (found.json["corpus"], found.json["count"], found.json["subjects"]) == ("drawn", 48, 6)
    assert set(call("corpora", "--json").json["corpora"]) >= {"drawn", "photos", "ckplus"}
    knobs = call("systems", "fersnet.tiny", "--knobs", "--json").json["knobs"]
    assert knobs["data.global_batch_images"]["bounds"] == [1, 65536]


def test_a_system_tells_its_recipes_and_what_they_make_use_of(call: Mien) -> None:
    recipes = call("systems", "oadn", "--json").json["recipes"]
    assert recipes["tiny"]["wants"] == ["landmarks"] and recipes["tiny"]["image_size"] == 48
    assert recipes["tiny_backbone"]["wants"] == []
    one = call("systems", "fersnet.small", "--json").json["recipes"]
    assert one["small"]["wants"] == ["same subject partners"]
    assert list(one) == ["small"]
    recipes = call("systems", "fersnet", "--json").json["recipes"]
    assert recipes["tiny"]["wants"] == ["same subject partners", "identity network"]
    assert recipes["tiny_single_task"]["wants"] == ["same subject partners"]
    assert "paw.tiny_whole" in call("systems", "paw").out


def test_tables_are_for_people(call: Mien, drawn: Path) -> None:
    assert "subjects" in call("lake", drawn).out
    assert "labels.csv" in call("corpora").out
    shown = call("systems", "fersnet.tiny", "--knobs").out
    assert "engine.workers" in shown and "lambda_cls" in shown


def test_nothing_ran_yet(call: Mien) -> None:
    assert call("runs", "--json").json == {"runs": []}
    assert "there is no run 'x'" in call("stop", "x").line


def test_the_doctor_names_what_it_looked_at(call: Mien) -> None:
    checks = {check["name"]: check for check in call("doctor", "--json").json["checks"]}
    assert {"Python", "packages", "disk", "MLflow", "home"} <= set(checks)
    assert checks["Python"]["state"] == "ok"


def test_the_doctor_sees_what_is_missing_and_what_differs(tmp_path: Path) -> None:
    from cluster.doctor import packages

    lock = tmp_path / "requirements.lock"
    lock.write_text("# made so\nnumpy==0.0.1\nno-such-thing==1\n")
    states = {check.name: check.state for check in packages(lock)}
    assert states == {"numpy": "warn", "no-such-thing": "fail", "packages": "warn"}


TOO_MANY = ("--workers", "512", "--set", "data.global_batch_images=512")
TUNE = ("tune", "identity.tiny", "--lake", "{lake}", "--trials", "2")
WRONG = [
    (("nosuch",), "No such command 'nosuch'"),
    (("lake",), "Missing"),
    (("lake", "/no/such/lake"), "no lake at /no/such/lake"),
    (("ingest", "nosuch", "--lake", "{tmp}/lake"), "unknown corpus 'nosuch'; valid: affectnet, "),
    (("ingest", "photos", "/no/photos", "--lake", "{tmp}/lake"), "/no/photos is not a folder"),
    (("ingest", "photos", "{tmp}", "--lake", "{tmp}/lake"), "no labels.csv in"),
    (("ingest", "drawn", "--size", "5", "--lake", "{tmp}/lake"), "size must be from"),
    (
        ("ingest", "drawn", "--option", "people=3", "--lake", "{tmp}/lake"),
        "unknown option 'people'",
    ),
    (
        ("ingest", "drawn", "--option", "people", "--lake", "{tmp}/lake"),
        "must look like NAME=VALUE",
    ),
    (("systems", "nosuch"), "unknown system 'nosuch'; valid: "),
    (("systems", "fersnet.nosuch"), "unknown recipe 'fersnet.nosuch'; valid: "),
    (("systems", "--knobs"), "--knobs needs a SYSTEM; valid: "),
    (("train",), "SYSTEM and --lake are needed"),
    (("train", "nosuch", "--lake", "{lake}"), "unknown system 'nosuch'; valid: "),
    (("train", "fersnet.nosuch", "--lake", "{lake}"), "unknown recipe 'fersnet.nosuch'; valid: "),
    (("train", "identity.tiny", "--lake", "/no/lake"), "no lake at /no/lake"),
    (("train", "identity.tiny", "--lake", __file__), "it is a file"),
    (("ingest", "drawn", "--lake", __file__), "is no folder"),
    (("train", "identity.tiny", "--lake", "{lake}", "--fold", "11/10"), "fold '11/10'"),
    (("train", "identity.tiny", "--lake", "{lake}", "--fold", "all:1/5"), "tests nobody"),
    (("train", "identity.tiny", "--lake", "{lake}", "--workers", "2:x"), "as in 2:4"),
    (("train", "identity.tiny", "--lake", "{lake}", "--fold", "first"), "K/N"),
    (("train", "identity.tiny", "--lake", "{lake}", "--fold", "official"), "no official split"),
    (("train", "identity.tiny", "--lake", "{lake}", "--set", "data.labels=votes"), "has no votes"),
    (("train", "identity.tiny", "--lake", "{lake}", "--set", "system.nose=1"), "unknown setting"),
    (("train", "identity.tiny", "--lake", "{lake}", "--set", "seed"), "must look like PATH=VALUE"),
    (("train", "fersnet.tiny", "--lake", "{lake}", "--set", "lambda_cls=-1"), "valid: 0"),
    (("train", "identity.tiny", "--lake", "{lake}", "--zero", "3"), "valid: 0, 1, 2"),
    (("train", "identity.tiny", "--lake", "{lake}", "--precision", "fp8"), "valid: fp32, bf16"),
    (("train", "identity.tiny", "--lake", "{lake}", "--workers", "7"), "worker counts that can"),
    (
        ("train", "identity.tiny", "--lake", "{lake}", *TOO_MANY),
        "512 workers do not fit: each needs a",
    ),
    (
        ("train", "identity.tiny", "--lake", "{lake}", "--set", "data.image_size=64"),
        "has faces of 48 px and the run needs 64 px",
    ),
    (
        ("train", "identity.tiny", "--lake", "{lake}", "--init", "nosuch", "--fold", "1/3"),
        "there is no run 'nosuch'",
    ),
    (
        ("train", "identity.tiny", "--lake", "{lake}", "--init-map", "a.=b."),
        "--init-map needs weights to start from",
    ),
    (
        ("train", "identity.tiny", "--lake", "{lake}", "--init", "x", "--init-map", "a"),
        "--init-map a: it must look like OLD=NEW",
    ),
    (("train", "--resume", "nosuch"), "there is no run 'nosuch'"),
    (("train", "identity.tiny", "--resume", "x"), "nothing besides it: not SYSTEM[.RECIPE]"),
    (("train", "--resume", "x", "--name", "y"), "give nothing besides it: not --name"),
    (("train", "--resume", "x", "--init-map", "a=b"), "give nothing besides it: not --init-map"),
    (("train", "--resume", "x", "--experiment", "mien"), "give nothing besides it: not --exp"),
    (("crossval", "--resume", "x", "--init-only", "*"), "give nothing besides it: not --init-only"),
    (("crossval", "--resume", "x", "--allow-leaks"), "give nothing besides it: not --allow-leaks"),
    (("crossval", "--resume", "x", "--parallel", "2"), "'x' must name one cross-validation"),
    (("crossval", "identity.tiny", "--lake", "{lake}", "--folds", "9"), "9 folds need at least"),
    (
        ("tune", "identity.tiny", "--lake", "{lake}", "--trials", "2", "--search", "nose=0:1"),
        "unknown setting 'nose'",
    ),
    (("tune", "identity.tiny", "--lake", "{lake}", "--trials", "0"), "greater than or equal to 1"),
    ((*TUNE, "--objective", "beauty"), "unknown objective 'beauty' of identity; valid: "),
    ((*TUNE, "--search", "system.optimizer.learning_rate=2:1"), "is empty"),
    (
        (*TUNE, "--search", "system.optimizer.learning_rate=0:1:log"),
        "a log range starts above zero",
    ),
    ((*TUNE, "--search", "seed=1,2", "--outer", "6/5"), "fold '6/5'"),
    ((*TUNE, "--search", "seed=1,2", "--resume", "--name", "none"), "no study 'none'; studies"),
    (("train", "--from-study", "nosuch"), "there is no study 'nosuch'"),
    (("train", "identity.tiny", "--from-study", "x"), "names its system"),
    (("evaluate", "nosuch", "--lake", "{lake}"), "there is no run 'nosuch'"),
    (("compare",), "nothing has been recorded yet"),
    (("recognise", "nosuch", "{tmp}/x.png"), "there is no run 'nosuch'"),
    (("edit", "nosuch", "{tmp}/x.png", "--to", "fear", "--out", "{tmp}/y.png"), "there is no run"),
    (("register", "nosuch", "faces"), "there is no run 'nosuch'"),
    (("register", "nosuch", "a/b"), "'a/b' cannot name a registered model; valid: "),
    (("register", "nosuch", "faces", "--alias", "v1"), "'v1' cannot be an alias; valid: "),
    (("doctor", "--cluster"), "--cluster"),
    (("ingest", "drawn", "--lake", "s3://bucket/lake"), "is no directory: a new lake, pools"),
    (("train", "identity.tiny", "--lake", "s3://me:word@bucket/lake"), "must not hold a name or"),
    (("cluster", "up", "nosuch.yaml"), "there is no cluster file nosuch.yaml"),
    (("server", "start", "--host", "0.0.0.0"), "name it for them: --allow"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(
    call: Mien, drawn: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    said = call(*(word.format(tmp=tmp_path, lake=drawn) for word in words))
    assert says in said.line
    assert "Traceback" not in said.out + said.err
    assert said.code == terminal.WRONG_INPUT


def test_options_of_a_corpus_keep_their_texts(call: Mien, tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", header="file,001,expression")
    (source / "2018_12").mkdir()
    for name in ("0.png", "1.png"):
        (source / name).rename(source / "2018_12" / name)
    told = ("table=labels.csv", "images=2018_12", "subject=001", "aligned=true")
    options = [word for one in told for word in ("--option", one)]
    lake = ("--lake", tmp_path / "lake", "--size", 32)
    said = call("ingest", "folders", source, *lake, *options, "--json")
    assert said.code == terminal.DONE
    assert (said.json["faces"], said.json["found"]["subjects"]) == (2, 2)


def test_labels_without_a_column(call: Mien, tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", header="file,subject,mood")
    said = call("ingest", "photos", source, "--lake", tmp_path / "lake")
    assert said.code == terminal.WRONG_INPUT
    assert "labels.csv" in said.line and "expression" in said.line


def test_a_label_that_nobody_knows(call: Mien, tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", "0.png,carl,bored\n")
    said = call("ingest", "photos", source, "--lake", tmp_path / "lake")
    assert said.code == terminal.WRONG_INPUT
    assert "bored" in said.line and "happiness" in said.line


def test_a_folder_of_another_corpus(call: Mien, tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    for corpus in ("ckplus", "oulu_casia", "muxspace"):
        said = call("ingest", corpus, source, "--lake", tmp_path / "lake")
        assert said.code == terminal.WRONG_INPUT
        assert str(source) in said.line
    assert not (tmp_path / "lake" / "manifest.json").exists()


def test_an_image_that_is_no_image_is_quarantined_and_the_rest_goes_on(
    call: Mien, tmp_path: Path
) -> None:
    source = photos(tmp_path / "photos", "note.png,dora,fear\n")
    (source / "note.png").write_text("not a picture")
    said = call("ingest", "photos", source, "--lake", tmp_path / "lake", "--size", 32, "--json")
    assert said.code == terminal.DONE
    assert (said.json["faces"], said.json["rejected"]) == (2, 1)
    assert said.json["by_reason"] == {"not an image": 1}
    assert "note.png,not an image" in (tmp_path / "lake" / "quarantine.csv").read_text()


def test_a_lake_made_by_a_newer_version(call: Mien, drawn: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for path in drawn.iterdir():
        if path.is_file():
            (lake / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((lake / "manifest.json").read_text())
    (lake / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99, "new": 1}))
    said = call("lake", lake)
    assert said.code == terminal.WRONG_INPUT
    assert "made by a newer version (format 99" in said.line


def test_a_lake_made_by_an_older_version(call: Mien, drawn: Path, tmp_path: Path) -> None:
    """It says so, and can be ingested anew in its place."""
    lake = tmp_path / "lake"
    shutil.copytree(drawn, lake)
    manifest = json.loads((lake / "manifest.json").read_text())
    (lake / "manifest.json").write_text(json.dumps(manifest | {"format_version": 1}))
    said = call("lake", lake)
    assert said.code == terminal.WRONG_INPUT
    assert "made by an older version (format 1" in said.line and "ingest again" in said.line
    size = manifest["image_size"]
    words = ("--option", "subjects=2", "--option", "faces_per_subject=8", "--workers", 1)
    said = call("ingest", "drawn", "--lake", lake, "--size", size, *words)
    assert said.code == terminal.DONE
    assert call("lake", lake).code == terminal.DONE


def test_a_lake_that_was_half_written(call: Mien, drawn: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for path in drawn.glob("faces-*.parquet"):
        (lake / path.name).write_bytes(path.read_bytes())
    said = call("lake", lake)
    assert said.code == terminal.WRONG_INPUT
    assert "half-written lake" in said.line


def test_a_lake_whose_file_was_cut(call: Mien, drawn: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for path in drawn.iterdir():
        if path.is_file():
            content = path.read_bytes()
            cut = path.suffix == ".parquet"
            (lake / path.name).write_bytes(content[: len(content) // 2] if cut else content)
    assert "damaged lake" in call("lake", lake).line


def test_another_corpus_does_not_overwrite_a_lake(call: Mien, drawn: Path, tmp_path: Path) -> None:
    before = (drawn / "manifest.json").read_bytes()
    said = call("ingest", "photos", photos(tmp_path / "photos"), "--lake", drawn, "--size", 48)
    assert said.code == terminal.WRONG_INPUT
    assert "choose another folder" in said.line
    assert (drawn / "manifest.json").read_bytes() == before


FULL_DISK = "import resource, sys, mien; sys.argv[0] = 'mien'; mien.main()"


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted (that takes root): {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_leaves_no_lake(small_disk: Path) -> None:
    _fills_up(small_disk / "lake", "No space left on device", limit=None)


def test_a_file_that_may_not_grow_leaves_no_lake(tmp_path: Path) -> None:
    """As on a full disk, where no disk can be mounted: the write fails in the same place."""
    _fills_up(tmp_path / "lake", "File too large", limit=_small_files)


def _fills_up(lake: Path, says: str, *, limit: Callable[[], None] | None) -> None:
    words = ("ingest", "drawn", "--lake", str(lake), "--size", "64", "--workers", "1")
    words += ("--option", "subjects=2", "--option", "faces_per_subject=16")
    found = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert found.returncode == terminal.FAILED
    assert found.stderr.startswith("mien: failed: ")
    assert says in found.stderr and "Traceback" not in found.stderr
    assert not (lake / "manifest.json").exists()


def test_a_split_with_copies_on_both_sides_is_refused(call: Mien, tmp_path: Path) -> None:
    from data_service import corpora
    from data_service.ingest import ingest

    scan = corpora.scan("drawn", None, {"subjects": 8, "faces_per_subject": 1, "size": 64})
    lines = []
    for number, pixels in enumerate(corpora.load("drawn").images(scan.faces)):  # type: ignore[attr-defined]
        for side, picture in (("left", pixels), ("right", pixels[:, ::-1])):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / side / f"{number}.png")
            lines.append(f"{side}/{number}.png,{side}{number},{('fear', 'anger')[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(["file,subject,expression", *lines]))
    lake = tmp_path / "lake"
    ingest("photos", tmp_path, lake, image_size=48)
    assert call("audit", lake, "--fold", "1/3", "--json").json["near_copies"] == 8
    search = ("tune", "--trials", 1, "--search", "seed=1,2")
    for command in (("train",), ("crossval", "--folds", 3), search):
        said = call(*command, "identity.tiny", "--lake", lake)
        assert said.code == 2
        assert "groups of copies on more than one side, such as left/" in said.line
        assert said.line.endswith("to train nevertheless: --allow-leaks")
