"""Commands that make and show lakes."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster import tables, terminal
from cluster.home import directory
from cluster.options import AsJson, pairs
from cluster.terminal import show, working
from data_service.options import LakeArgument

app = typer.Typer()

FACES_WORTH_RAY = 400
"""Fewer faces are placed in this process before a local Ray would have started."""


@app.command(epilog="Example: mien corpora")
def corpora(as_json: AsJson = False) -> None:
    """What can be read, and the layout that each corpus must have."""
    from data_service import corpora as known

    modules = {name: known.load(name) for name in known.names()}
    values = {
        name: {"description": one.DESCRIPTION, "layout": one.LAYOUT, "expected": one.EXPECTED}
        for name, one in modules.items()
    }
    show({"corpora": values}, tables.corpora(values), as_json)


@app.command(epilog="Example: mien ingest photos ~/photos --lake lakes/photos --size 64")
def ingest(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="One of `mien corpora`.")],
    source: Annotated[
        Path | None, typer.Argument(metavar="SOURCE", help="Its folder; `drawn` needs none.")
    ] = None,
    *,
    lake: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the lake is to be.", callback=directory)
    ],
    size: Annotated[int, typer.Option(help="Side of the aligned faces, in pixels.")] = 128,
    grey: Annotated[bool, typer.Option(help="Keep one channel.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default every CPU.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the corpus.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find and align the faces of a corpus and write the lake; says what was rejected and why."""
    options = pairs(option, "--option")
    with working("ingest") as log_file, terminal.progress("faces") as progress:
        from cluster.session import connect
        from data_service import corpora as known
        from data_service.ingest import ingest as make_lake
        from data_service.ingest import require_own_folder

        require_own_folder(lake, source)
        found = known.scan(corpus, source, options, image_size=size)
        here = workers == 1 or (workers is None and len(found.faces) < FACES_WORTH_RAY)
        with nullcontext() if here else connect(log_file=log_file):
            report = make_lake(
                corpus,
                source,
                lake,
                image_size=size,
                channels=1 if grey else 3,
                workers=workers,
                scan=found,
                progress=progress,
            )
    values = report.as_json()
    show(values, tables.ingested(values), as_json)


@app.command(epilog="Example: mien lake lakes/photos --report photos.html")
def lake(
    place: LakeArgument,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Counts, classes, subjects, alignment quality and hash of a lake."""
    from data_service.lakes.lake import Lake

    if report is not None and report.is_dir():
        raise ValueError(f"--report {report} is a folder; valid: a file, as {report / 'lake.html'}")
    opened = Lake.open(place)
    values = asdict(opened.manifest)
    if report is not None:
        from data_service.lake_report import write_report

        with terminal.progress("drawing"):
            write_report(opened, report)
        values["report"] = str(report)
    show(values, tables.lake(values), as_json)


@app.command(epilog="Example: mien audit lakes/photos --fold 1/5")
def audit(
    place: LakeArgument,
    fold: Annotated[
        str | None,
        typer.Option(metavar="K/N|official", help="Also what stands on more than one side."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copies, contradicting labels, subjects of one class, and what gives a class away."""
    with working("audit"), terminal.progress("looking"):
        from data_service.audit import told
        from data_service.lakes.lake import Lake

        values = told(Lake.open(place), fold)
    show(values, tables.audit(values), as_json)
