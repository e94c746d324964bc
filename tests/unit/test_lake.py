"""Lakes: written in any order to the same bytes, read back exactly, refused when not whole."""

import csv
import json
import multiprocessing
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from data_service.lakes.lake import Lake, LakeWriter
from data_service.lakes.unpacked import unpack_once
from data_service.schema import Rejection, face_schema

SIZE = 16
NAMES = [f"s{index % 4}/{index:02d}.png" for index in range(12)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows(names, size=SIZE, channels=3):
    images = np.stack(
        [np.full((size, size, channels), int(name[3:5]) * 5, np.uint8) for name in names]
    )
    schema = face_schema(size, channels)
    values = [
        {
            "sample_id": name[::-1],
            "corpus": "photos",
            "name": name,
            "subject": None if name.startswith("s3") else name[:2],
            "expression": "fear" if name[4] in "02468" else None,
            "attributes": [("glasses", 1.0)],
            "votes": [],
            "landmarks": [1.0, 2.0, 0.5],
            "alignment": "detector",
            "confidence": 0.9,
            "perceptual_hash": 2**64 - 1,
        }
        for name in names
    ]
    columns = [
        pa.array([value.get(name) for value in values], schema.field(name).type)
        for name in schema.names[:-1]
    ]
    tensor = schema.field("image").type
    storage = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), size * size * channels)
    columns.append(pa.ExtensionArray.from_storage(tensor, storage))
    return pa.Table.from_arrays(columns, schema=schema)


def writer(path, **changes):
    settings = {"corpus": "photos", "image_size": SIZE, "channels": 3, "source_hash": "x"}
    return LakeWriter(path, **(settings | changes))


def write(path, names=NAMES, chunk=5, **changes):
    one = writer(path, **changes)
    for start in range(0, len(names), chunk):
        one.append(rows(names[start : start + chunk]))
    one.finish([Rejection(name="a, b", reason="no face")], {"faces": 12}, {"faces": 13})
    return Lake.open(path)


def test_a_lake_reads_back_what_was_written(tmp_path):
    lake = write(tmp_path / "lake", NAMES[::-1])
    assert lake.table["name"].to_pylist() == sorted(NAMES)
    expected = rows(sorted(NAMES))
    assert lake.table.equals(expected.drop_columns(["image", "source_thumbnail"]))
    assert lake.faces.shape == (12, SIZE, SIZE, 3)
    assert np.array_equal(lake.faces, expected["image"].combine_chunks().to_numpy_ndarray())
    with pytest.raises(ValueError, match="read-only"):
        lake.faces[0] = 1
    lake.verify()


def test_the_manifest_counts(tmp_path):
    manifest = write(tmp_path / "lake").manifest
    assert manifest.count == 12 and manifest.subjects == 3
    assert manifest.classes == {"fear": 6, "unlabelled": 6}
    assert manifest.alignments == {"detector": 12}
    assert manifest.rejected == {"no face": 1}
    assert (manifest.found, manifest.expected) == ({"faces": 12}, {"faces": 13})
    quarantine = (tmp_path / "lake" / "quarantine.csv").read_text()
    assert quarantine == 'name,reason,detail\n"a, b",no face,\n'


def test_refused_names_are_read_back_whatever_they_hold(tmp_path):
    names = ["a\rb.jpg", "c\nd.jpg", 'e",f.jpg', " g.jpg "]
    one = writer(tmp_path / "lake")
    one.append(rows(NAMES[:1]))
    one.finish([Rejection(name=name, reason="no face", detail=name) for name in names], {}, {})
    with (tmp_path / "lake" / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        told = [(row["name"], row["reason"], row["detail"]) for row in csv.DictReader(file)]
    assert told == sorted((name, "no face", name) for name in names)


def test_the_bytes_do_not_depend_on_the_order_of_arrival(tmp_path):
    write(tmp_path / "a", NAMES, chunk=5)
    write(tmp_path / "b", NAMES[::-1], chunk=2)
    for left in (tmp_path / "a").iterdir():
        assert left.read_bytes() == (tmp_path / "b" / left.name).read_bytes(), left.name


def test_the_hash_follows_pixels_and_labels(tmp_path):
    hashes = {write(tmp_path / str(count), NAMES[:count]).hash for count in (10, 11, 12)}
    assert len(hashes) == 3


def test_several_files(tmp_path, monkeypatch):
    whole = write(tmp_path / "whole")
    monkeypatch.setattr("data_service.lakes.files._FILE_BYTES", SIZE * SIZE * 3 * 5)
    split = write(tmp_path / "split", NAMES[::-1])
    assert [file.rows for file in split.manifest.files] == [5, 5, 2]
    assert split.hash == whole.hash
    unpacked = unpack_once(split.path, split.manifest)
    unpacked.unlink()
    assert np.array_equal(
        split.faces, rows(sorted(NAMES))["image"].combine_chunks().to_numpy_ndarray()
    )
    assert split.table.equals(whole.table)


def test_a_new_lake_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    old = write(tmp_path / "lake")
    half = writer(tmp_path / "lake")
    half.append(rows(NAMES[:3]))
    assert Lake.open(tmp_path / "lake").hash == old.hash
    with pytest.raises(ValueError, match="being written by another process"):
        writer(tmp_path / "lake")
    del half  # as its process would be
    new = write(tmp_path / "lake", NAMES[:6])
    assert len(new) == 6
    assert len(list((tmp_path / "lake").glob("faces-*"))) == len(new.manifest.files)
    new.verify()


def test_who_waited_for_a_writer_that_ended_keeps_others_out(tmp_path, monkeypatch):
    first = writer(tmp_path / "lake")
    ends = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: first.remove_parts())
    with monkeypatch.context() as patch:
        patch.setattr("cluster.lock.time", ends)
        second = writer(tmp_path / "lake")
    with pytest.raises(ValueError, match="being written by another process"):
        writer(tmp_path / "lake")
    second.append(rows(NAMES))
    second.finish([], {}, {})
    left = {path.name for path in (tmp_path / "lake").iterdir() if path.suffix != ".parquet"}
    assert left == {"manifest.json", "quarantine.csv"}


def test_parts_are_taken_over_by_the_same_work_alone(tmp_path):
    one = writer(tmp_path / "lake", work="a")
    one.append(rows(NAMES[:3]), [Rejection(name="x", reason="no face")], part=4)
    one.append(rows(NAMES[3:5]), part=0)
    del one
    again = writer(tmp_path / "lake", work="a")
    assert list(again.parts) == [0, 4]
    table, rejected = again.kept(4)
    assert table.equals(rows(NAMES[:3])) and rejected == [Rejection(name="x", reason="no face")]
    with pytest.raises(ValueError, match="part 4 is kept already"):
        again.append(rows(NAMES[:3]), part=4)
    del again
    assert not len(writer(tmp_path / "lake", work="b").parts)
    assert not len(writer(tmp_path / "lake", work="a").parts)


def test_a_part_that_is_not_what_was_written_is_not_taken_over(tmp_path):
    one = writer(tmp_path / "lake", work="a")
    for part in range(3):
        one.append(rows(NAMES[part : part + 1]), part=part)
    del one
    first, second, _ = sorted((tmp_path / "lake" / ".parts" / "a").iterdir())
    first.write_bytes(first.read_bytes()[:-100])
    second.rename(second.with_suffix(".draft"))
    assert list(writer(tmp_path / "lake", work="a").parts) == [2]
    assert len(list((tmp_path / "lake" / ".parts" / "a").iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"corpus": "muxspace"}, "holds photos faces"), ({"image_size": 8}, "16x16 px in colour")],
)
def test_a_lake_of_another_kind_is_not_overwritten(tmp_path, change, message):
    write(tmp_path / "lake")
    with pytest.raises(ValueError, match=message):
        writer(tmp_path / "lake", **change)


def test_what_is_no_lake(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        Lake.open(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        Lake.open(tmp_path)
    writer(tmp_path / "half").append(rows(NAMES))
    with pytest.raises(ValueError, match="half-written"):
        Lake.open(tmp_path / "half")
    with pytest.raises(ValueError, match="would be empty"):
        writer(tmp_path / "empty").finish([], {}, {})


def test_damage_and_newer_versions_are_told(tmp_path):
    path = tmp_path / "lake"
    lake = write(path)
    manifest = path / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(whole) | {"format_version": 99, "surprise": 1}))
    with pytest.raises(ValueError, match="newer version"):
        Lake.open(path)
    for broken in (whole[: len(whole) // 2], "[]", "{}"):
        manifest.write_text(broken)
        with pytest.raises(ValueError, match="damaged lake"):
            Lake.open(path)
    manifest.write_text(whole)
    faces = path / lake.manifest.files[0].name
    content = faces.read_bytes()
    faces.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="bytes, not"):
        Lake.open(path)
    faces.write_bytes(content[:-1] + b"?")
    with pytest.raises(ValueError, match="has changed"):
        Lake.open(path).verify()
    with pytest.raises(ValueError, match="has changed"):
        _ = Lake.open(path).faces
    faces.unlink()
    with pytest.raises(ValueError, match="is missing"):
        Lake.open(path)


def test_require_size(tmp_path):
    lake = write(tmp_path / "lake")
    lake.require_size(16)
    with pytest.raises(ValueError, match="--size 17"):
        lake.require_size(17)


def test_a_cached_file_of_the_wrong_size_is_made_again(tmp_path):
    lake = write(tmp_path / "lake")
    unpacked = unpack_once(lake.path, lake.manifest)
    unpacked.write_bytes(b"short")
    assert lake.faces[3, 0, 0, 0] == rows(sorted(NAMES)[3:4])["image"][0].as_py()[0]


def _unpack(path, sink):
    sink.put(int(Lake.open(Path(path)).faces.sum()))


def test_two_processes_may_unpack_at_once(tmp_path, cache):
    lake = write(tmp_path / "lake")
    context = multiprocessing.get_context("fork")
    sums = context.Queue()
    both = [context.Process(target=_unpack, args=(str(lake.path), sums)) for _ in range(2)]
    for process in both:
        process.start()
    assert sums.get(timeout=20) == sums.get(timeout=20) == int(lake.faces.sum())
    for process in both:
        process.join()
    assert sorted(path.name for path in (cache / lake.manifest.files_hash).iterdir()) == [
        "faces.bin",
        "lock",
    ]


def test_a_full_disk_leaves_no_lake(tmp_path, monkeypatch):
    one = writer(tmp_path / "lake")
    one.append(rows(NAMES))

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        one.finish([], {}, {})
    with pytest.raises(ValueError, match="half-written"):
        Lake.open(tmp_path / "lake")
    assert not list((tmp_path / "lake").glob("*.draft"))
