"""Commands that look at photographs with a trained run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import terminal
from cluster.options import AsJson, Run
from cluster.terminal import show, table, working

app = typer.Typer()

Photo = Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph with a face.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="A PNG.")]
FaceOnly = Annotated[
    bool, typer.Option("--face", help="Only the aligned face, not pasted back into the picture.")
]
Yaw = Annotated[
    float | None,
    typer.Option(
        metavar="DEGREES",
        help="Where the run has pose: 0 (default) is to the front, 30 to the picture's right.",
    ),
]


@app.command(epilog="Example: mien edit 3f2a me.jpg --to happiness --intensity 0.5 --out happy.png")
def edit(
    run: Run,
    image: Photo,
    *,
    to: Annotated[str, typer.Option(metavar="EXPRESSION")],
    intensity: Annotated[float | None, typer.Option(help="0 to 1, where the system can.")] = None,
    yaw: Yaw = None,
    out: Out,
    face: FaceOnly = False,
    as_json: AsJson = False,
) -> None:
    """Give the main face in a photograph another expression."""
    with working("edit"), terminal.progress("editing"):
        from trainer.inference.edit import edit as edit_face

        done = edit_face(run, image, to, intensity=intensity, yaw=yaw, out=out, face_only=face)
    show(done.as_json(), [f"{done.out}: {done.to}; {_placed(done.alignment)}"], as_json)


@app.command(epilog="Example: mien transfer 3f2a laughing.jpg me.jpg --out me-laughing.png")
def transfer(
    run: Run,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A photograph that shows the expression.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The photograph that gets it.")],
    *,
    expression: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION", help="What SOURCE shows; else the system or a judge reads it."
        ),
    ] = None,
    out: Out,
    face: FaceOnly = False,
    as_json: AsJson = False,
) -> None:
    """Give the main face of TARGET the expression that the main face of SOURCE shows."""
    with working("transfer"), terminal.progress("transferring"):
        from trainer.inference.edit import transfer as transfer_expression

        done = transfer_expression(
            run, source, target, out=out, expression=expression, face_only=face
        )
    show(done.as_json(), [f"{done.out}: {done.to}; {_placed(done.alignment)}"], as_json)


@app.command(epilog="Example: mien sweep 3f2a me.jpg --to happiness --to anger --out me.gif")
def sweep(
    run: Run,
    image: Photo,
    *,
    to: Annotated[
        list[str] | None, typer.Option(metavar="EXPRESSION", help="By default all, in order.")
    ] = None,
    levels: Annotated[int, typer.Option(help="Steps of intensity, where the system can.")] = 6,
    yaw: Yaw = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A PNG (strip) or a GIF (moving).")],
    as_json: AsJson = False,
) -> None:
    """Show the main face of a photograph with all expressions, at rising intensity."""
    with working("sweep"), terminal.progress("sweeping"):
        from trainer.inference.sweep import sweep as sweep_face

        done = sweep_face(run, image, out=out, to=to or (), levels=levels, yaw=yaw)
    said = f"{done.out}: {', '.join(done.expressions)}; {_placed(done.alignment)}"
    show(done.as_json(), [said], as_json)


@app.command(epilog="Example: mien recognise 3f2a me.jpg holidays/ party.mp4 --every 25")
def recognise(
    run: Run,
    sources: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...")],
    *,
    every: Annotated[int, typer.Option(help="Of a video, only each so many-th frame.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Name the expression in photographs and videos; exit code 1 when none of several is read."""
    with working("recognise"), terminal.progress("recognising"):
        from trainer.inference.recognise import recognise as name_faces

        found, refused = name_faces(run, sources, every=every)
    rows = [(one.image, one.frame, one.expression, one.confidence, one.alignment) for one in found]
    columns = ("image", "frame", "expression", "confidence", "placed by")
    shown: list[Any] = [table(columns, rows)]
    if refused:
        shown.append(table(("refused", "why"), [(one.image, one.reason) for one in refused]))
    values = {
        "images": [one.as_json() for one in found],
        "refused": [one.as_json() for one in refused],
    }
    show(values, shown, as_json)
    if not found:
        raise typer.Exit(terminal.FAILED)


def _placed(alignment: str) -> str:
    return f"the face was placed by {alignment}"
