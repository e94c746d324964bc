"""The audit finds what was planted and not what is alike, and a leak stops a training."""

import io
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_service.audit import audited, copies, leaks_of, pictures, told
from data_service.audit.candidates import VARIANTS, Candidates, find
from data_service.audit.findings import Audit, Leaks, Pair, leaks, one_class_subjects
from data_service.audit.giveaways import find_giveaways
from data_service.audit.pictures import Pictures
from data_service.audit.registration import Face, likeness, variant_map
from data_service.corpora import drawn
from data_service.folds import Fold, make_folds
from data_service.ingest import ingest
from data_service.lakes.lake import Lake
from trainer.leakage import leak_tags

SIDE = 64


def flipped(face, rng):
    return face[:, ::-1]


def cropped(face, rng):
    """Nineteen twentieths of each side, from anywhere, brought to the old size."""
    height, width = (round(side * 0.95) for side in face.shape[:2])
    top = rng.integers(face.shape[0] - height + 1)
    left = rng.integers(face.shape[1] - width + 1)
    part = np.ascontiguousarray(face[top : top + height, left : left + width])
    return cv2.resize(part, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def encoded(face, rng):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(face)).save(file, "JPEG", quality=40)
    return np.array(Image.open(file))


def brightened(face, rng):
    return np.clip(face * rng.choice([0.8, 1.2]), 0, 255).round().astype(np.uint8)


CHANGES = (flipped, cropped, encoded, brightened)
PLANTED = [*((one,) for one in CHANGES), *itertools.combinations(CHANGES, 2)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Lake, list[str]]:
    """Drawn faces, ten of them again under other subjects, changed in all ways; one is equal."""
    folder = tmp_path_factory.mktemp("planted")
    faces = drawn.scan(None, subjects=40, faces_per_subject=1, size=SIDE).faces
    rng = np.random.default_rng(0)
    lines, changed = ["file,subject,expression"], [(), *PLANTED]
    for index, (face, picture) in enumerate(zip(faces, drawn.images(faces), strict=True)):
        copies = {f"f{index:02d}.png": (picture, face.subject)}
        if index < len(changed):
            again = picture
            for change in changed[index]:
                again = change(again, rng)
            copies[f"f{index:02d}-again.png"] = (again, f"other{index}")
        for name, (pixels, subject) in copies.items():
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name)
            lines.append(f"{name},{subject},{face.expression}")
    (folder / "labels.csv").write_text("\n".join(lines))
    ingest("photos", folder, folder / "lake", image_size=SIDE)
    return Lake.open(folder / "lake"), [f"f{index:02d}" for index in range(len(changed))]


def test_planted_copies_are_found_and_nothing_else(planted):
    lake, names = planted
    values = told(lake)
    found = sorted(tuple(sorted(pair["files"])) for pair in values["copies"])
    assert found == [(f"{name}-again.png", f"{name}.png") for name in names]
    assert (values["exact_copies"], values["near_copies"]) == (1, len(names) - 1)
    mirrored = {pair["files"][0][:3] for pair in values["copies"] if pair["mirrored"]}
    assert mirrored == {
        name for name, ways in zip(names[1:], PLANTED, strict=True) if flipped in ways
    }
    assert len(values["subject_conflicts"]) == len(names) and not values["label_conflicts"]


def test_the_audit_lies_beside_the_lake_and_is_found_anew_when_it_is_of_another(planted):
    lake, _ = planted
    file = lake.path / "audit.json"
    whole = file.read_bytes()
    first = audited(lake)
    far = [{"first": 0, "second": row, "likeness": 0.95} for row in (-1, len(lake), "1")]
    changes = ({"lake_hash": "other"}, {"method": -1}, *({"pairs": [one]} for one in far))
    changes = (*changes, {"pairs": [{"first": 1}]})
    for content in (b"", whole[:40], *(json.dumps(json.loads(whole) | one) for one in changes)):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert Audit.read(lake.path, lake.hash, len(lake)) is None
    assert audited(lake) == first
    assert file.read_bytes() == whole


def test_training_refuses_a_leak_and_says_how_to_go_on(planted):
    lake, _ = planted
    fold = make_folds(lake.table, 3)[0]
    with pytest.raises(
        ValueError, match=r"fold 1/3 of .* leaks: \d+ groups of copies .*--allow-leaks"
    ):
        leak_tags(lake, {"1/3": fold}, allow=False)
    tag = leak_tags(lake, {"1/3": fold}, allow=True)["mien.leaks"]
    assert tag.startswith("fold 1/3: ") and "groups of copies" in tag
    whole = np.arange(len(lake))
    one_side = Fold(
        index=1, num_folds=1, train_rows=whole, validation_rows=whole[:0], test_rows=whole[:0]
    )
    assert not leaks_of(lake, one_side)
    assert leak_tags(lake, {"all": one_side}, allow=False) == {"mien.leaks": "none"}


def test_groups_join_pairs_and_leaks_follow_the_parts():
    def pair(first, second):
        return Pair(first=first, second=second, likeness=0.95)

    audit = Audit(lake_hash="", faces=9, pairs=(pair(1, 5), pair(3, 4), pair(5, 8)), giveaways=())
    assert audit.groups() == [[1, 5, 8], [3, 4]]
    subjects = ["a", "a", "b", "c", "c", "d", None, None, "d"]
    table = pa.table({"subject": pa.array(subjects, pa.string())})
    assert audit.conflicts(table["subject"]) == [[1, 5, 8]]
    rows = np.arange(9)
    # 1 and 8 are copies by way of 5, which is in no part
    found = leaks(audit, table, (rows[:2], rows[2:5], rows[6:]))
    assert found == Leaks(copies=((1, 5, 8),), subjects=())
    assert str(found) == "1 group of copies"
    assert (
        str(leaks(audit, table, (rows[:1], rows[1:4], rows[4:])))
        == "2 groups of copies and 2 subjects"
    )
    assert not leaks(audit, table, (rows, rows[:0], rows[:0]))


def test_subjects_of_one_class():
    table = pa.table(
        {
            "subject": ["a", "a", "b", "b", "c", None, None, "d", "d"],
            "expression": ["fear", "fear", "fear", "anger", "fear", "fear", "fear", "fear", None],
        }
    )
    assert one_class_subjects(table) == {"a": "fear"}


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_registration_starts_where_the_variant_says(variant):
    rng = np.random.default_rng(1)
    whole = cv2.GaussianBlur(rng.normal(size=(96, 96)), (0, 0), 2.0)
    whole = np.round(128 + 60 * whole / whole.std()).clip(0, 255).astype(np.uint8)
    face = cv2.resize(whole, (48, 48), interpolation=cv2.INTER_AREA)
    shown = cv2.warpAffine(
        face,
        variant_map(variant, 48)[:2],
        (48, 48),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    one, other = (
        Face(face_SS=pixels, source_SS=None, from_source_33=np.eye(3)) for pixels in (shown, face)
    )
    assert likeness(one, other, variant, by_source=False) > 0.97
    noise = rng.integers(0, 255, (48, 48)).astype(np.uint8)
    stranger = Face(face_SS=noise, source_SS=None, from_source_33=np.eye(3))
    assert likeness(one, stranger, variant, by_source=False) < 0.5


def test_a_colour_that_goes_with_a_class_is_told():
    rng = np.random.default_rng(0)
    classes = np.resize(["fear", "anger", "happiness"], 240)
    colours = rng.normal(size=(240, 6)).astype(np.float32)
    table = pa.table(
        {
            "sample_id": [str(row) for row in range(240)],
            "subject": [f"s{row // 6}" for row in range(240)],
            "expression": classes,
            "crop_matrix": pa.array([None] * 240, pa.list_(pa.float32())),
        }
    )
    assert find_giveaways(table, colours) == ()
    colours[classes == "fear", 0] += 3
    (found,) = find_giveaways(table, colours)
    assert (found.cue, found.expression) == ("colour", "fear") and found.area > 0.9
    few = table.filter(pa.array(np.arange(240) < 24))
    assert find_giveaways(few, colours[:24]) == ()


def test_a_lake_of_before_thumbnails_is_audited_by_its_faces(planted, monkeypatch):
    lake, names = planted
    monkeypatch.setattr(pictures, "THUMBNAIL", "nothing of that name")
    seen = Pictures.of(lake)
    assert not seen.has_source_N.any()
    found = copies.find_copies(seen, lake.table, SIDE)
    assert len(found) >= len(names) - 2


def test_pairs_are_looked_at_until_too_many_in_turn_are_no_copies(monkeypatch):
    """Pairs known already are passed over."""
    looked_at = []

    def alike(one, other, variant, *, by_source):
        looked_at.append((one, other))
        return 1.0 if other in (1, 4) else 0.5

    monkeypatch.setattr(copies, "likeness", alike)
    monkeypatch.setattr(copies, "MIN_PATIENCE", 3)
    others = np.arange(1, 13)
    pairs = Candidates(first=np.zeros(12, int), second=others, variant=np.zeros(12, int))
    found = list(copies._near(pairs, range(20), by_source=False, known={(0, 6): 1}))
    assert [pair.second for pair in found] == [1, 4]
    assert [other for _, other in looked_at] == [1, 2, 3, 4, 5, 7, 8]
    looked_at.clear()
    assert len(list(copies._near(pairs, range(100), by_source=False, known={}))) == 2
    assert len(looked_at) == 9, "a twentieth of the faces"


def test_what_is_most_alike_comes_first():
    """Two equal pictures before two that differ a little, and those before what is unlike."""
    rng = np.random.default_rng(0)
    seen_NSS = rng.integers(0, 256, (40, 48, 48), np.uint8)
    seen_NSS = np.stack([cv2.GaussianBlur(one, (0, 0), 3) * 3 for one in seen_NSS])
    seen_NSS[7] = seen_NSS[3]
    seen_NSS[21] = np.clip(seen_NSS[5].astype(int) + rng.integers(-30, 31, (48, 48)), 0, 255)
    pairs = find(seen_NSS, np.arange(40), np.full(40, -1))
    found = [{int(one), int(other)} for one, other in zip(pairs.first, pairs.second, strict=True)]
    assert found[:2] == [{3, 7}, {5, 21}]


def test_the_audit_of_a_read_only_lake_is_kept_in_the_cache(planted, monkeypatch):
    lake, _ = planted
    expected = audited(lake)
    (lake.path / "audit.json").unlink()
    write = Audit.write

    def refuse(self: Audit, folder: Path) -> None:
        if folder == lake.path:
            raise PermissionError
        write(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Audit, "write", refuse)
        assert audited(lake) == expected
        patch.setattr("data_service.audit.copies.find_copies", None)
        assert audited(lake) == expected
    assert not (lake.path / "audit.json").exists()
    expected.write(lake.path)


def test_an_audit_that_can_be_kept_nowhere_is_told_all_the_same(planted, monkeypatch):
    lake, _ = planted
    expected = audited(lake)
    (lake.path / "audit.json").unlink()

    def refuse(self: Audit, folder: Path) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(Audit, "write", refuse)
        assert audited(lake) == expected
    expected.write(lake.path)
