"""What is done with a trained run: recognise, edit, evaluate, list, stop. The weights are fresh."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mien
from cluster import terminal
from data_service import corpora
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from tests.made_runs import finished, finished_on, self_contained
from trainer import catalog, feed, job, restore, runs

pytestmark = pytest.mark.usefixtures("quick_judges")

RUN_ID = "0123456789abcdef"
EDIT = ("--to", "fear", "--out", "{out}")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few drawn faces, larger than what the run sees of them."""
    path = tmp_path_factory.mktemp("lakes") / "drawn"
    ingest("drawn", None, path, image_size=64, options={"subjects": 6, "faces_per_subject": 16})
    return path


@pytest.fixture
def run(lake: Path, own_home: Path) -> Path:
    """The directory of a run of `fersnet.tiny` that has finished, with fresh weights."""
    directory = finished_on(lake, self_contained("fersnet.tiny"), RUN_ID)
    job.set_status(directory, "finished", step=3, images=96, total_images=96)
    return directory


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """One drawn face as a file."""
    faces = corpora.scan("drawn", None, {"subjects": 1, "faces_per_subject": 8, "size": 128}).faces
    picture = corpora.load("drawn").images(faces[:1])[0]  # type: ignore[attr-defined]
    path = tmp_path / "me.png"
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict, str]]:
    """Runs `mien` with --json: exit code, the object, and what stands on stderr."""

    def run(*words: object) -> tuple[int, dict, str]:
        argv = [*map(str, words), "--json"]
        code = terminal.run(lambda: mien.app(argv, prog_name="mien", standalone_mode=False))
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        return code, json.loads(lines[-1]) if lines else {}, captured.err

    return run


def test_recognise_names_one_expression_per_photograph(call, run: Path, photograph: Path) -> None:
    code, values, _ = call("recognise", RUN_ID[:6], photograph, photograph)
    assert code == terminal.DONE
    one, two = values["images"]
    assert one == two
    assert sum(one["confidences"].values()) == pytest.approx(1, abs=1e-5)
    assert one["confidence"] == max(one["confidences"].values())


def test_recognise_takes_folders_in_order_and_tells_what_is_no_picture(
    call, run: Path, photograph: Path
) -> None:
    folder = photograph.parent / "album"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "deeper/c.png"):
        (folder / name).write_bytes(photograph.read_bytes())
    (folder / "broken.jpg").write_text("not a picture")
    (folder / "notes.txt").write_text("not taken")
    code, values, _ = call("recognise", RUN_ID, folder, photograph)
    assert code == terminal.DONE
    names = [Path(one["image"]).name for one in values["images"]]
    assert names == ["a.PNG", "b.png", "c.png", photograph.name]
    (refused,) = values["refused"]
    assert refused["image"].endswith("broken.jpg") and "not an image" in refused["reason"]


def test_recognise_takes_each_so_many_th_frame_of_a_video(
    call, run: Path, photograph: Path, tmp_path: Path
) -> None:
    import av

    picture = np.array(Image.open(photograph))
    clip = tmp_path / "clip.mp4"
    with av.open(clip, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        for _ in range(7):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    code, values, _ = call("recognise", RUN_ID, clip, photograph, "--every", 3)
    assert code == terminal.DONE
    assert [one["frame"] for one in values["images"]] == [0, 3, 6, None]
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    code, _, err = call("recognise", RUN_ID, broken)
    assert code == terminal.WRONG_INPUT and "broken.mp4: not a video" in err
    assert "every 0th frame" in call("recognise", RUN_ID, clip, "--every", 0)[2]


def test_a_folder_without_a_picture_is_refused(call, run: Path, tmp_path: Path) -> None:
    code, _, err = call("recognise", RUN_ID, tmp_path)
    assert code == terminal.WRONG_INPUT
    assert "has no picture and no video; valid: .avi" in err


def test_edit_pastes_the_face_back_and_leaves_the_rest_alone(
    call, run: Path, photograph: Path, tmp_path: Path
) -> None:
    out = tmp_path / "happy.png"
    code, values, _ = call("edit", RUN_ID, photograph, "--to", "happiness", "--out", out)
    assert code == terminal.DONE and values["to"] == "happiness"
    before, after = np.array(Image.open(photograph)), np.array(Image.open(out))
    assert before.shape == after.shape
    assert np.any(before != after)
    assert np.array_equal(before[:2], after[:2])


def test_edit_can_write_the_aligned_face_at_the_runs_size(
    call, run: Path, photograph: Path, tmp_path: Path
) -> None:
    out = tmp_path / "happy.png"
    code, _, _ = call("edit", RUN_ID, photograph, "--to", "happiness", "--face", "--out", out)
    assert code == terminal.DONE
    size = catalog.recipe("fersnet.tiny").data.image_size
    assert np.array(Image.open(out)).shape[:2] == (size, size)


def test_what_changes_nothing_leaves_every_pixel(run: Path, photograph: Path) -> None:
    from trainer.inference.photographs import Viewer, pasted
    from trainer.restore import load_system

    seen = Viewer(load_system(RUN_ID)).read(photograph)
    assert np.array_equal(pasted(seen, seen.face_1CSS), seen.image_HW3)
    brighter = pasted(seen, seen.face_1CSS + 0.2)
    side = seen.face_1CSS.shape[-1]
    middle = np.linalg.solve(seen.matrix_23[:, :2], np.full(2, side / 2) - seen.matrix_23[:, 2])
    x, y = middle.round().astype(int)
    change = brighter[y, x].astype(int) - seen.image_HW3[y, x]
    assert np.all((change == 25) | (change == 26) | (brighter[y, x] == 255))


def test_sweep_shows_every_expression_as_a_strip_and_as_a_moving_picture(
    call, run: Path, photograph: Path, tmp_path: Path
) -> None:
    strip, moving = tmp_path / "strip.png", tmp_path / "moving.gif"
    code, values, _ = call("sweep", RUN_ID, photograph, "--out", strip)
    assert code == terminal.DONE
    assert len(values["expressions"]) == 8 and values["levels"] == []
    assert Image.open(strip).width > 8 * 48
    code, values, _ = call(
        "sweep", RUN_ID, photograph, "--to", "fear", "--to", "anger", "--out", moving
    )
    assert code == terminal.DONE and values["expressions"] == ["fear", "anger"]
    assert getattr(Image.open(moving), "n_frames", 1) >= 3
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_run_with_pose_turns_heads_where_it_is_told(
    call, lake: Path, own_home: Path, photograph: Path, tmp_path: Path
) -> None:
    finished_on(lake, self_contained("multilevel_critic.tiny_pose"), "aaaa")
    for command, own in (("edit", ("--to", "fear", "--face")), ("sweep", ())):
        made = {}
        for yaw in (None, 0.0, -60.0):
            out = tmp_path / f"{command}{yaw}.png"
            told = () if yaw is None else ("--yaw", yaw)
            code, values, _ = call(command, "aaaa", photograph, *own, *told, "--out", out)
            assert code == terminal.DONE and values["yaw"] == yaw
            made[yaw] = np.array(Image.open(out))
        assert np.array_equal(made[None], made[0.0])
        assert not np.array_equal(made[None], made[-60.0])
    code, _, err = call("sweep", "aaaa", photograph, "--yaw", 120, "--out", tmp_path / "x.png")
    assert code == terminal.WRONG_INPUT and "yaw is 120; valid: -90 to 90 degrees" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--out", "{tmp}/x.jpg"), "a name that ends in .png, .gif"),
        (("--out", "{tmp}/no/x.png"), "there is no folder"),
        (("--to", "bored", "--out", "{tmp}/x.png"), "unknown expression 'bored'"),
        (("--levels", "1", "--out", "{tmp}/x.png"), "1 levels of intensity; valid: 2 or more"),
        (("--yaw", "0", "--out", "{tmp}/x.png"), "was trained without pose; leave --yaw away"),
    ],
)
def test_sweep_says_what_is_wrong(
    call, run: Path, photograph: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    code, _, err = call("sweep", RUN_ID, photograph, *(word.format(tmp=tmp_path) for word in words))
    assert code == terminal.WRONG_INPUT
    assert says in err


@pytest.mark.parametrize("recipe", ["exprgan.tiny", "ter_gan.tiny"])
def test_transfer_gives_a_photograph_the_expression_of_another(
    call, lake: Path, own_home: Path, photograph: Path, tmp_path: Path, recipe: str
) -> None:
    """What the source shows is told, or read by the system, or by a judge where it reads none."""
    finished_on(lake, self_contained(recipe), "aaaa")
    source, out = tmp_path / "source.png", tmp_path / "made.png"
    Image.open(photograph).resize((96, 90)).save(source)
    code, values, err = call("transfer", "aaaa", source, photograph, "--out", out)
    assert code == terminal.DONE, err
    assert values["to"] in Lake.open(lake).manifest.classes
    assert (values["source"], values["image"]) == (str(source), str(photograph))
    before, after = np.array(Image.open(photograph)), np.array(Image.open(out))
    assert before.shape == after.shape and np.array_equal(before[:2], after[:2])
    told = ("--expression", "fear", "--face", "--out", out)
    assert call("transfer", "aaaa", source, photograph, *told)[1]["to"] == "fear"
    side = catalog.recipe(recipe).data.image_size
    assert np.array(Image.open(out)).shape[:2] == (side, side)
    code, _, err = call("transfer", "aaaa", tmp_path / "no.png", photograph, "--out", out)
    assert code == terminal.WRONG_INPUT and "no.png" in err


def test_intensity_rises_where_the_system_scales_it(
    call, lake: Path, own_home: Path, photograph: Path, tmp_path: Path
) -> None:
    finished_on(lake, self_contained("exprgan.tiny"), "aaaa")
    strip, out = tmp_path / "strip.png", tmp_path / "x.png"
    to = ("--to", "fear", "--to", "anger")
    code, values, _ = call("sweep", "aaaa", photograph, *to, "--levels", 3, "--out", strip)
    assert code == terminal.DONE and values["levels"] == [0, 0.5, 1]
    side = catalog.recipe("exprgan.tiny").data.image_size
    with Image.open(strip) as picture:
        assert picture.width > 4 * side and picture.height > 2 * side
    asked = ("edit", "aaaa", photograph, "--to", "fear", "--out", out, "--intensity")
    assert call(*asked, 0.5)[1]["intensity"] == 0.5
    code, _, err = call(*asked, 2)
    assert code == terminal.WRONG_INPUT and "intensity is 2.0; valid: 0 to 1" in err


@pytest.mark.parametrize(
    ("recipe", "words", "says"),
    [
        ("fersnet.tiny", ("transfer", "{me}", "{me}", "--out", "{out}"), "transfer expressions"),
        ("fersnet.tiny", ("edit", "{me}", *EDIT, "--intensity", "0.5"), "scale intensity"),
        ("baseline.tiny", ("edit", "{me}", *EDIT), "make faces"),
        ("baseline.tiny", ("sweep", "{me}", "--out", "{out}"), "make faces"),
        ("exprgan.tiny", ("recognise", "{me}"), "recognise expressions"),
        ("fersnet.small_single_task", ("edit", "{me}", *EDIT), "make faces"),
    ],
)
def test_a_system_that_cannot_names_those_that_can(
    call,
    lake: Path,
    own_home: Path,
    photograph: Path,
    tmp_path: Path,
    recipe: str,
    words: tuple[str, ...],
    says: str,
) -> None:
    finished_on(lake, self_contained(recipe), "aaaa")
    out = tmp_path / "x.png"
    command, *rest = (word.format(me=photograph, out=out) for word in words)
    code, _, err = call(command, "aaaa", *rest)
    assert code == terminal.WRONG_INPUT and not out.exists()
    (capability,) = (name for name, verb in restore.VERBS.items() if verb == says)
    can = [name for name in catalog.names() if capability in catalog.load(name).capabilities]
    assert f"is a {recipe}, which does not {says}; systems that do: {', '.join(can)}" in err


def test_evaluate_on_its_own_lake_takes_the_test_subjects_alone(
    call, run: Path, lake: Path
) -> None:
    code, values, _ = call("evaluate", RUN_ID, "--lake", lake)
    assert code == terminal.DONE
    assert (values["num_subjects"], values["num_faces"]) == (2, 32)
    assert values["accuracy"]["low"] <= values["accuracy"]["value"] <= values["accuracy"]["high"]
    assert values["images_per_second"] > 0
    assert set(values["measures"]) == {"pose", "synthesis"}
    assert values["measures"]["synthesis"]["num_faces"] == 32
    assert "there is no database" in values["not_in_mlflow"]


def test_evaluate_on_another_lake_takes_every_face(call, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    options = {"subjects": 2, "faces_per_subject": 8, "seed": 5}
    ingest("drawn", None, other, image_size=64, options=options)
    code, values, _ = call("evaluate", RUN_ID, "--lake", other)
    assert code == terminal.DONE and values["num_faces"] == 16


def test_evaluate_refuses_faces_of_other_channels(
    call, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An RGB run on a grey lake, and a run of a grey lake on an RGB one."""
    settings, opened = catalog.recipe("baseline.tiny"), Lake.open(lake)
    grey = replace(opened, manifest=replace(opened.manifest, channels=1))
    info = feed.prepare(settings, catalog.spec_of(settings), opened, "1/3").info
    finished(settings, info, "aaaa")
    finished(settings, replace(info, channels=1), "bbbb")
    for run_id, shown, own, other in (("aaaa", grey, 3, 1), ("bbbb", opened, 1, 3)):
        with monkeypatch.context() as patch:
            patch.setattr(Lake, "open", lambda path, shown=shown: shown)
            code, _, err = call("evaluate", run_id, "--lake", lake)
        assert code == terminal.WRONG_INPUT
        assert f"was trained on faces of {own} channels, those of {lake} have {other}" in err


def test_weights_cut_in_half_are_not_taken_for_whole(call, run: Path, photograph: Path) -> None:
    weights = run / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    code, _, err = call("recognise", RUN_ID, photograph)
    assert code == terminal.WRONG_INPUT
    assert "weights.safetensors is no whole weights file" in err


def test_a_file_that_is_no_image_is_refused(call, run: Path, tmp_path: Path) -> None:
    text = tmp_path / "note.png"
    text.write_text("not a picture")
    code, _, err = call("recognise", RUN_ID, text)
    assert code == terminal.WRONG_INPUT
    assert f"{text}: not an image" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--to", "bored", "--out", "{tmp}/x.png"), "unknown expression 'bored'"),
        (("--to", "fear", "--out", "{tmp}/x.jpg"), "a name that ends in .png"),
        (("--to", "fear", "--out", "{tmp}/no/x.png"), "there is no folder"),
        (("--to", "fear", "--yaw", "-9", "--out", "{tmp}/x.png"), "was trained without pose"),
    ],
)
def test_edit_says_what_is_wrong(
    call, run: Path, photograph: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    code, _, err = call("edit", RUN_ID, photograph, *(word.format(tmp=tmp_path) for word in words))
    assert code == terminal.WRONG_INPUT
    assert says in err
    assert not list(tmp_path.glob("x.*"))


def test_runs_tells_what_ran_and_what_was_lost(call, run: Path) -> None:
    (found,) = call("runs")[1]["runs"]
    assert (found["run_id"], found["system"], found["state"]) == (
        RUN_ID,
        "fersnet.tiny",
        "finished",
    )
    status = job.read_json(run / "status.json")
    job.write_json(run / "status.json", status | {"state": "running", "pid": 2**22 + 1})
    assert call("runs")[1]["runs"][0]["state"] == "lost"


def test_a_run_without_a_status_is_lost_and_what_is_no_run_is_passed_over(call, run: Path) -> None:
    (run / "status.json").unlink()
    torn = run.with_name("torn")
    torn.mkdir()
    (torn / "run.json").write_text("{")
    (found,) = call("runs")[1]["runs"]
    assert (found["run_id"], found["state"], found["images"]) == (RUN_ID, "lost", 0)
    assert [values["run_id"] for values in job.records()] == [RUN_ID]


def test_only_what_runs_can_be_stopped(call, run: Path) -> None:
    code, _, err = call("stop", RUN_ID)
    assert code == terminal.WRONG_INPUT
    assert "is not running; it is finished" in err
    assert not (run / "stop").exists()


def test_stop_asks_and_waits(run: Path) -> None:
    job.set_status(run, "running", step=1, images=32, total_images=96)
    with pytest.raises(TimeoutError, match="has not ended"):
        runs.stop(RUN_ID, wait_seconds=0.5)
    assert (run / "stop").exists()
    job.set_status(run, "stopped", step=1, images=32)
    assert runs.row(run)["state"] == "stopped"


def test_progress_is_that_of_the_newest_run(run: Path) -> None:
    assert runs.images_done(time.time() + 1) is None
    job.set_status(run, "running", step=1, images=32, total_images=96)
    assert runs.images_done(0.0) == (32, 96)


def test_progress_reads_no_run_of_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job.set_status(run, "running", step=1, images=32, total_images=96)
    began = (run / "status.json").stat().st_mtime
    monkeypatch.setattr(job, "read_json", pytest.fail)
    assert runs.images_done(began + 1) is None


def test_the_weights_are_those_of_the_run(run: Path) -> None:
    from trainer.restore import load_system

    loaded = load_system(RUN_ID)
    assert loaded.run.system_name == "fersnet"
    for player in loaded.system.players():
        assert not player.module.training
        assert not any(parameter.requires_grad for parameter in player.module.parameters())
        assert all(torch.isfinite(value).all() for value in player.module.parameters())


def test_training_faces_of_each_class_are_counted(lake: Path) -> None:
    opened = Lake.open(lake)
    made = feed.prepare(catalog.recipe("fersnet.tiny"), catalog.load("fersnet"), opened, "1/3")
    names = opened.table["expression"].take(np.asarray(made.fold.train_rows)).to_pylist()
    assert made.info.class_images == tuple(names.count(str(name)) for name in made.info.classes)
    assert sum(made.info.class_images) == len(made.fold.train_rows) > 0
