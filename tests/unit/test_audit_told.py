"""What an audit tells of contradictions, torn subjects and sizes that give a class away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cluster.mlflow_store import ensure_store
from data_service.audit import told
from data_service.audit.giveaways import find_giveaways
from data_service.corpora import drawn
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from trainer import catalog, job, launch
from trainer.overrides import with_overrides

SIDE = 56
RUN = with_overrides(
    catalog.recipe("baseline.tiny"),
    {"system.images": 64, "data.global_batch_images": 32, "evaluation.every_images": 0},
)


def photographed(folder: Path, subjects: int) -> list[list[str]]:
    """Eight drawn faces of each subject, a sitting, as files; their rows of a table."""
    faces = drawn.scan(None, subjects=subjects, faces_per_subject=8, size=SIDE).faces
    rows = []
    for index, (face, pixels) in enumerate(zip(faces, drawn.images(faces), strict=True)):
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{index:02d}.png")
        rows.append(
            [
                f"{index:02d}.png",
                str(face.subject),
                str(face.expression),
                "train",
                str(face.sitting),
            ]
        )
    return rows


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Six subjects, of whom the corpus tests two, and of the last of them only half.

    Two faces of the first stand there again: one with another label, one with none.
    """
    folder = tmp_path_factory.mktemp("torn")
    rows = photographed(folder, 6)
    for row in rows[32:44]:
        row[3] = "test"
    for name, index, label in (("again.png", 3, "contempt"), ("bare.png", 5, "")):
        (folder / name).write_bytes((folder / rows[index][0]).read_bytes())
        assert rows[index][2] != label
        rows.append([name, rows[index][1], label, *rows[index][3:]])
    lines = ["file,subject,expression,split,sequence", *map(",".join, rows)]
    (folder / "labels.csv").write_text("\n".join(lines))
    options = {"table": "labels.csv", "aligned": True}
    ingest("folders", folder, folder / "lake", image_size=SIDE, options=options)
    return Lake.open(folder / "lake")


def test_a_picture_with_two_labels_is_told_and_one_without_a_label_is_not(torn: Lake) -> None:
    values = told(torn)
    files = [sorted(pair["files"]) for pair in values["copies"]]
    assert sorted(files) == [["03.png", "again.png"], ["05.png", "bare.png"]]
    assert values["exact_copies"] == 2
    assert [sorted(group) for group in values["label_conflicts"]] == [["03.png", "again.png"]]
    assert values["subject_conflicts"] == []
    assert "leaking_subjects" not in values


def test_a_subject_that_the_corpus_trains_and_tests_on_is_told(torn: Lake) -> None:
    values = told(torn, "official")
    assert (values["leaking_subjects"], values["leaking_copies"]) == (["s0005"], [])
    by_subject = told(torn, "1/3")
    assert (by_subject["leaking_subjects"], by_subject["leaking_copies"]) == ([], [])


def test_a_run_that_leaks_says_so_in_mlflow_and_is_refused_unless_it_may(torn: Lake) -> None:
    run = replace(RUN, data=replace(RUN.data, classes=()))
    with pytest.raises(ValueError, match=r"leaks: 1 subject .*subject s0005; .*--allow-leaks"):
        launch.train(run, torn.path, fold="official")
    assert not job.runs_dir().exists() or not list(job.runs_dir().iterdir())
    result = launch.train(run, torn.path, fold="official", allow_leaks=True)
    assert result.status == "finished"
    store = ensure_store(job.load(result.directory).tracking_uri)
    tags = store.get_run(result.run_id).data.tags
    assert tags["mien.leaks"] == "fold official: 1 subject"


def sized() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns and colours of 240 faces of 40 subjects, whose sizes say nothing of their classes."""
    rng = np.random.default_rng(0)
    columns = {
        "sample_id": np.array([str(row) for row in range(240)]),
        "subject": np.array([f"s{row // 6}" for row in range(240)]),
        "expression": np.resize(["fear", "anger", "happiness"], 240),
        "source_height": rng.integers(200, 400, 240),
        "source_width": rng.integers(200, 400, 240),
        "scale": rng.uniform(0.5, 1.0, 240),
    }
    return columns, rng.normal(size=(240, 6)).astype(np.float32)


def found_by_size(columns: dict[str, np.ndarray], colours_NF: np.ndarray) -> list[tuple[str, str]]:
    scale_N = columns["scale"]
    table = pa.table({name: values for name, values in columns.items() if name != "scale"})
    # turned by some angle, as faces are: the scale is that of the determinant
    turned_N6 = np.outer(scale_N, [0.8, -0.6, 3.0, 0.6, 0.8, 5.0])
    matrices = pa.array(turned_N6.tolist(), pa.list_(pa.float32()))
    table = table.append_column("crop_matrix", matrices)
    return [(one.cue, one.expression) for one in find_giveaways(table, colours_NF)]


@pytest.mark.parametrize(
    ("what", "factor"), [("source_height", 2), ("source_width", 2), ("scale", 0.5)]
)
def test_a_size_that_goes_with_a_class_is_told(what: str, factor: float) -> None:
    columns, colours_NF = sized()
    assert found_by_size(columns, colours_NF) == []
    columns[what] = np.where(
        columns["expression"] == "anger", columns[what] * factor, columns[what]
    ).astype(columns[what].dtype)
    assert found_by_size(columns, colours_NF) == [("size", "anger")]
