"""The lake's page: whole in one file, and it says what the lake and its audit say."""

import io
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from cluster import tables
from data_service import commands
from data_service.alignment.align import TEMPLATE_52, Aligner
from data_service.alignment.detect import Detection
from data_service.audit import told
from data_service.ingest import ingest
from data_service.lake_report import _ranges, write_report
from data_service.lakes.lake import Lake
from data_service.lakes.page import bars, sheet_of, table
from data_service.schema import Expression
from tests.corpora.pictures import face, write


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    path = tmp_path_factory.mktemp("lakes") / "a & b"
    ingest("drawn", None, path, image_size=32, options={"subjects": 5, "faces_per_subject": 8})
    return Lake.open(path)


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Lake:
    """Photographs of which one is there twice, some are placed in doubt or not, two are refused."""
    folder = tmp_path_factory.mktemp("album")
    lines = ["file,subject,expression", "<b>.png,s,fear", "gone.png,s,fear", "again.png,0,anger"]
    for subject in range(8):
        picture = face(subject, Expression.FEAR).copy()
        picture[0, 0] = subject
        lines.append(f"{subject}.png,{subject},fear")
        write(folder / f"{subject}.png", picture)
    write(folder / "again.png", (folder / "0.png").read_bytes())
    write(folder / "<b>.png", b"no picture")
    write(folder / "labels.csv", "\n".join(lines))

    def find(self, image_HW3):
        if image_HW3[0, 0, 0] % 2:
            return "centre", None
        points_52 = TEMPLATE_52 * len(image_HW3)
        box_4 = np.array([0.0, 0.0, *image_HW3.shape[1::-1]])
        return "fallback", Detection(box_4=box_4, probability=0.6, points_52=points_52)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Aligner, "find", find)
        patch.setattr("ray.is_initialized", lambda: False)  # other processes would not find so
        ingest("photos", folder, folder.with_name("placed"), image_size=48)
    return Lake.open(folder.with_name("placed"))


class Reader(HTMLParser):
    """Checks that elements close in order, and collects what they show."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []
        self.told: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
            self.told.append(dict(attrs)["alt"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_the_page_is_whole_and_needs_nothing_else(lake, tmp_path):
    write_report(lake, tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    reader = Reader()
    reader.feed(content)
    assert not reader.open
    assert reader.pictures and all(
        one.startswith("data:image/webp;base64,") for one in reader.pictures
    )
    assert not re.search(r"(src|href)=[\"']?http|url\(", content)
    assert "a & b" in reader.words and lake.hash in reader.words
    for name in lake.manifest.classes:
        assert f"{name}: 5 faces" in reader.words
    assert "Nothing was refused." in reader.words
    assert "prefers-color-scheme: dark" in content and "width=device-width" in content


def test_doubts_refusals_copies_and_giveaways_are_shown(album, tmp_path, monkeypatch):
    giveaway = {"expression": "fear", "cue": "colour", "area": 0.91}
    audit = told(album) | {"giveaways": [giveaway]}
    monkeypatch.setattr("data_service.lake_report.told", lambda lake: audit)
    write_report(album, tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    reader = Reader()
    reader.feed(content)
    assert not reader.open and "<b>.png" not in content
    assert {
        "faces of anger",
        "faces of fear",
        "mean face of fear",
        "faces placed by the weaker fallback detector",
        "faces placed centre crop, for want of any point",
        "least certain faces",
        "two faces that show the same",
    } <= set(reader.told)
    assert "confidence from 0.60" in reader.words and "0.png / again.png" in reader.words
    assert "not an image1<b>.png" in reader.words and "file missing1gone.png" in reader.words
    assert "1 exact copy, 0 near ones; 1 group of copies with different labels, 0" in reader.words
    assert "anger: 1 face" in reader.words and "anger: 1 faces" not in reader.words
    assert "fearcolour0.91" in reader.words


def test_a_short_copy_is_told(lake, tmp_path):
    manifest = replace(lake.manifest, found={"faces": 40}, expected={"faces": 327, "subjects": 5})
    short = replace(lake, manifest=manifest)
    write_report(short, tmp_path / "page.html")
    reader = Reader()
    reader.feed((tmp_path / "page.html").read_text())
    assert "2 of 2 counts are below those of a complete copy." in reader.words
    assert "faces4032712.2%" in reader.words and "subjects050.0%" in reader.words
    shown = Console(width=100, file=io.StringIO())
    shown.print(*tables.lake(asdict(manifest)))
    lines = [line.split() for line in shown.file.getvalue().splitlines()]
    assert ["faces", "40", "327"] in lines and ["subjects", "0", "5"] in lines


def test_a_way_of_placing_that_nobody_knows_is_shown_by_its_name(lake, tmp_path):
    manifest = replace(lake.manifest, alignments={**lake.manifest.alignments, "by hand": 3})
    write_report(replace(lake, manifest=manifest), tmp_path / "page.html")
    assert "by hand" in (tmp_path / "page.html").read_text()


def test_refusals_and_strange_names_are_shown_as_text(lake, tmp_path):
    assert "&lt;b&gt;" in table(("<b>",), [("<i>",)]) and "<i>" not in table((), [("<i>",)])
    assert "<script>" not in bars({"<script>": 1})


def test_one_is_no_plural(lake, tmp_path, monkeypatch):
    found = {"exact_copies": 2, "near_copies": 1, "one_class_subjects": {"s": "fear"}}
    audit = told(lake) | found
    monkeypatch.setattr("data_service.lake_report.told", lambda lake: audit)
    manifest = replace(lake.manifest, found={"faces": 40}, expected={"faces": 327})
    write_report(replace(lake, manifest=manifest), tmp_path / "page.html")
    reader = Reader()
    reader.feed((tmp_path / "page.html").read_text())
    assert "2 exact copies, 1 near one; 0 groups of copies with" in reader.words
    assert "1 subject (20%) has several faces and one class alone" in reader.words
    assert "1 of 1 count is below that of a complete copy." in reader.words


def test_ranges_double():
    assert _ranges([1, 1, 2, 3, 8, 9], "face") == {
        "1 face": 2,
        "2 faces": 1,
        "3–4 faces": 1,
        "5–8 faces": 1,
        "9–16 faces": 1,
    }


def test_a_sheet_keeps_every_face():
    faces = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 4, 1), np.uint8)
    sheet = sheet_of(faces, 3)
    assert sheet.shape == (10, 16, 4)
    assert sheet[0, 12].tolist() == [2, 2, 2, 255] and sheet[6, 6].tolist() == [4, 4, 4, 255]
    assert sheet[6, 12, 3] == sheet[4, 0, 3] == 0, "the page shines through"


def test_a_report_without_a_folder(lake, tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        write_report(lake, tmp_path / "nowhere" / "page.html")


def test_a_report_in_a_folder_s_place(tmp_path, monkeypatch):
    monkeypatch.setattr("data_service.lakes.lake.Lake.open", pytest.fail)
    with pytest.raises(
        ValueError, match=r"--report .* is a folder; valid: a file, as .*/lake.html"
    ):
        commands.lake(tmp_path / "lake", report=tmp_path)
