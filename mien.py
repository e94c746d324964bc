"""The command line: each sub-command parses, calls one function below, and shows what it gave.

Modules are imported where they are used, so that `--help` does not wait for torch and Ray.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import tables, terminal
from cluster.home import directory
from cluster.terminal import show, table, working

app = typer.Typer(
    name="mien",
    help="Trains networks that recognise facial expressions, and networks that synthesise them.",
    epilog="Example: mien ingest drawn --lake faces, then: mien train fersnet.tiny --lake faces",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
server = typer.Typer(
    help="The MLflow tracking server.", epilog="Example: mien server start", no_args_is_help=True
)
app.add_typer(server, name="server")
machines = typer.Typer(
    help="Ray on the machines of ray_cluster.yaml.",
    epilog="Example: mien cluster up ray_cluster.yaml",
    no_args_is_help=True,
)
app.add_typer(machines, name="cluster")

FACES_WORTH_RAY = 400
"""Fewer faces are placed in this process before a local Ray would have started."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Recipe = Annotated[str, typer.Argument(metavar="SYSTEM[.RECIPE]", help="By default `small`.")]
LakeOption = Annotated[
    Path,
    typer.Option("--lake", metavar="DIR", help="Made by `mien ingest`.", callback=directory),
]
ClusterFile = Annotated[Path, typer.Argument(metavar="FILE", help="In the format of `ray up`.")]
RAY_CLUSTER = Path("ray_cluster.yaml")
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its start, or its folder.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Any setting of `mien systems --knobs`."),
]
Workers = Annotated[int | None, typer.Option(help="Training processes, over all machines.")]
Zero = Annotated[int | None, typer.Option(help="DeepSpeed's ZeRO stage: 0, 1 or 2.")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.")]
Seed = Annotated[int | None, typer.Option(help="Names the random numbers; equal seed, equal run.")]
Init = Annotated[
    str | None, typer.Option(metavar="RUN|FILE", help="Start weights: a run, or *.safetensors.")
]
InitOnly = Annotated[str, typer.Option(metavar="PATTERN", help="Which of them.")]
AllowLeaks = Annotated[
    bool, typer.Option("--allow-leaks", help="Train though copies stand on both sides.")
]
Experiment = Annotated[str, typer.Option(help="The MLflow experiment.")]
Name = Annotated[str | None, typer.Option(help="How MLflow shows it.")]
Photo = Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph with a face.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="A PNG.")]
FaceOnly = Annotated[
    bool, typer.Option("--face", help="Only the aligned face, not pasted back into the picture.")
]
Parallel = Annotated[int, typer.Option(min=1, help="How many at a time.")]


@app.callback()
def common(
    address: Annotated[
        str | None, typer.Option(help="A running Ray, host:port or auto; else a local one starts.")
    ] = None,
) -> None:
    """Trains networks that recognise facial expressions, and networks that synthesise them."""
    if address is not None:
        os.environ["RAY_ADDRESS"] = address


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
    corpus: Annotated[str, typer.Argument(help="One of `mien corpora`.")],
    source: Annotated[Path | None, typer.Argument(help="Its folder; `drawn` needs none.")] = None,
    *,
    lake: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the lake is to be.", callback=directory)
    ],
    size: Annotated[int, typer.Option(help="Side of the aligned faces, in pixels.")] = 128,
    grey: Annotated[bool, typer.Option(help="Keep one channel.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; by default every CPU.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the corpus.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find and align the faces of a corpus and write the lake; says what was rejected and why."""
    options = {name: _plain(text) for name, text in _pairs(option, "--option").items()}
    with working("ingest") as log_file, terminal.progress("faces") as progress:
        from cluster.session import connect
        from data_service import corpora as known
        from data_service.ingest import ingest as make_lake

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
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Counts, classes, subjects, alignment quality and hash of a lake."""
    from data_service.lake import Lake

    opened = Lake.open(directory)
    values = asdict(opened.manifest)
    if report is not None:
        from data_service.lake_report import write_report

        with terminal.progress("drawing"):
            write_report(opened, report)
        values["report"] = str(report)
    show(values, tables.lake(values), as_json)


@app.command(epilog="Example: mien audit lakes/photos --fold 1/5")
def audit(
    directory: Annotated[Path, typer.Argument(metavar="LAKE")],
    fold: Annotated[
        str | None, typer.Option(metavar="K/N", help="Also what stands on more than one side.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copies, contradicting labels, subjects of one class, and what gives a class away."""
    with working("audit"), terminal.progress("looking"):
        from data_service.audit import told
        from data_service.lake import Lake

        values = told(Lake.open(directory), fold)
    show(values, tables.audit(values), as_json)


@app.command(epilog="Example: mien systems fersnet.small --knobs")
def systems(
    system: Annotated[str | None, typer.Argument(metavar="SYSTEM[.RECIPE]")] = None,
    knobs: Annotated[bool, typer.Option("--knobs", help="Every λ, gate and setting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Systems and recipes; with --knobs every setting with default, bounds and paper symbol."""
    from trainer import catalog
    from trainer.config import plain
    from trainer.overrides import knobs as settings_of

    if knobs:
        if system is None:
            raise ValueError(f"--knobs needs a SYSTEM; valid: {', '.join(catalog.names())}")
        found = settings_of(catalog.recipe(system))
        rows = {one.path: plain(one) for one in found}
        show({"system": system, "knobs": rows}, [tables.knobs(found)], as_json)
        return
    names = [system.partition(".")[0]] if system else catalog.names()
    specs = [catalog.load(name) for name in names]
    values = {
        spec.name: {
            "title": spec.title,
            "recipes": list(spec.recipes),
            "capabilities": sorted(spec.capabilities),
        }
        for spec in specs
    }
    lines = [
        (name, one["title"], ", ".join(one["recipes"]), ", ".join(one["capabilities"]))
        for name, one in values.items()
    ]
    columns = ("system", "paper", "recipes", "can")
    show({"systems": values}, [table(columns, lines)], as_json)


@app.command(
    epilog="Example: mien train fersnet.tiny --lake lakes/drawn --workers 2 --set lambda_1=0.5"
)
def train(
    system: Annotated[str | None, typer.Argument(metavar="SYSTEM[.RECIPE]")] = None,
    *,
    lake: Annotated[
        Path | None, typer.Option(metavar="DIR", help="By `mien ingest`.", callback=directory)
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(metavar="K/N|official", help="By default the official split, else 1/10."),
    ] = None,
    workers: Workers = None,
    zero: Zero = None,
    precision: Precision = None,
    seed: Seed = None,
    settings: Settings = None,
    init: Init = None,
    init_only: InitOnly = "*",
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    allow_leaks: AllowLeaks = False,
    synthetic: Annotated[
        Path | None,
        typer.Option(metavar="POOL", help="By `mien synthesise`.", callback=directory),
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Of what is shown, from the pool: 0 to 0.9.")
    ] = None,
    from_study: Annotated[
        str | None, typer.Option(metavar="STUDY", help="The best setting that `mien tune` found.")
    ] = None,
    experiment: Experiment = "mien",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Train one fold; Ctrl-C saves a checkpoint and ends, --resume goes on from it."""
    with working("train"), terminal.watching("images", _polled("images_done")):
        from trainer import job, launch

        if resume is not None:
            given = (system, lake, fold, workers, zero, precision, seed, settings, init, from_study)
            given += (synthetic, share, name)
            changed = allow_leaks or (experiment, init_only) != ("mien", "*")
            if changed or any(value is not None for value in given):
                raise ValueError("--resume takes everything from the run; give nothing besides it")
            found = job.load(job.find(resume))
            result = launch.train(found.run, found.lake, resume=resume)
        else:
            chosen, lake, fold, seen_by = _chosen(system, lake, fold, from_study, allow_leaks)
            settings = [*(settings or ()), *_share(synthetic, share)]
            result = launch.train(
                _changed(chosen, settings, workers, zero, precision, seed),
                lake,
                fold=fold,
                seen_by=seen_by,
                experiment=experiment,
                name=name,
                init=init,
                init_only=init_only,
                allow_leaks=allow_leaks,
                synthetic=synthetic,
            )
    show(result.as_json(), tables.result(result.as_json()), as_json)
    if result.status == "stopped":
        terminal.say(f"stopped; to go on: mien train --resume {result.run_id}")
        raise typer.Exit(terminal.FAILED)


@app.command(
    epilog="Example: mien synthesise 3f2a --lake lakes/photos --fold 1/5 --out pools/photos-1"
)
def synthesise(
    run: Run,
    *,
    lake: LakeOption,
    fold: Annotated[
        str | None, typer.Option(metavar="K/N|official", help="By default the run's own.")
    ] = None,
    until: Annotated[
        str, typer.Option(metavar="equal|COUNT", help="Faces of a class, real and synthetic.")
    ] = "equal",
    gate: Annotated[float, typer.Option(help="Least confidence in the expression.")] = 0.7,
    out: Annotated[Path, typer.Option(metavar="POOL", help="A new folder.", callback=directory)],
    as_json: AsJson = False,
) -> None:
    """Fill the rare classes of a fold's training faces; for `mien train --synthetic POOL`."""
    if until != "equal" and not until.isdecimal():
        raise ValueError(f"--until {until}: valid: equal, or a number of faces")
    with working("synthesise"), terminal.progress("faces") as progress:
        from trainer.synthesise import synthesise as fill_pool
        from trainer.synthesise import told

        count = "equal" if until == "equal" else int(until)
        pool = fill_pool(run, lake, out, fold=fold, until=count, gate=gate, progress=progress)
    show(told(pool), tables.pool(told(pool)), as_json)


@app.command(epilog="Example: mien crossval fersnet.small --lake lakes/photos --folds 5")
def crossval(
    system: Recipe,
    *,
    lake: LakeOption,
    folds: Annotated[int, typer.Option(help="Folds by subject; each is tested once.")],
    parallel: Parallel = 1,
    workers: Workers = None,
    zero: Zero = None,
    precision: Precision = None,
    seed: Seed = None,
    settings: Settings = None,
    init: Init = None,
    init_only: InitOnly = "*",
    allow_leaks: AllowLeaks = False,
    synthetic: Annotated[Path | None, typer.Option("--synthetic", hidden=True)] = None,
    experiment: Experiment = "mien",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Train and test every fold; one scorecard over all subjects."""
    with working("crossval"), terminal.watching("folds", _polled("runs_ended", folds)):
        from trainer.crossval import crossval as run_folds

        run = _run(system, settings, workers, zero, precision, seed)
        values = run_folds(
            run,
            lake,
            folds,
            parallel=parallel,
            experiment=experiment,
            name=name,
            init=init,
            init_only=init_only,
            allow_leaks=allow_leaks,
            synthetic=synthetic,
        ).as_json()
    show(values, tables.result(values), as_json)


@app.command(
    epilog="Example: mien tune exprgan.tiny --lake faces --trials 6 --search lambda_1=0.1:9:log"
)
def tune(
    system: Recipe,
    *,
    lake: LakeOption,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try, all together.")],
    search: Annotated[
        list[str] | None, typer.Option(metavar="PATH=LOW:HIGH[:log]", help="What is searched.")
    ] = None,
    objective: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What is best, on validation.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds of each trial.")] = 1,
    parallel: Parallel = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study NAME.")] = False,
    seed: Annotated[int, typer.Option(help="Of the proposals.")] = 0,
    outer: Annotated[
        str | None,
        typer.Option(
            metavar="K/N|official", help="Set this fold's test subjects aside; test once, last."
        ),
    ] = None,
    asynchronous: Annotated[
        bool, typer.Option("--asynchronous", help="No waiting for others; not repeatable.")
    ] = False,
    settings: Settings = None,
    allow_leaks: AllowLeaks = False,
    experiment: Experiment = "mien",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Search λ and other settings; bad trials end early, and --resume repeats nothing."""
    done: list[Any] = []
    with working("tune"), terminal.progress("trials") as progress:
        from tuning.search import search as run_search

        values = run_search(
            _run(system, settings),
            lake,
            trials=trials,
            search=search or (),
            objectives=objective or (),
            folds=folds,
            parallel=parallel,
            name=name,
            resume=resume,
            seed=seed,
            outer=outer,
            asynchronous=asynchronous,
            experiment=experiment,
            allow_leaks=allow_leaks,
            on_trial=lambda trial: progress(len(done.append(trial) or done), trials),
        ).as_json()
    show(values, tables.study(values), as_json)
    if values["status"] == "stopped":
        terminal.say(f"stopped; to go on: the same command with --name {values['study']} --resume")
        raise typer.Exit(terminal.FAILED)


@app.command(epilog="Example: mien evaluate 3f2a --lake lakes/london --full")
def evaluate(
    run: Run,
    *,
    lake: LakeOption,
    full: Annotated[
        bool, typer.Option("--full", help="Also occlusions, gain by synthetic faces, more edits.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """A trained run on another lake; on its own lake, on its test subjects alone."""
    with working("evaluate"), terminal.progress("evaluating"):
        from trainer.retest import retest

        values = retest(run, lake, full=full)
    show(values, tables.result(values), as_json)


@app.command(epilog="Example: mien reproduce ckplus7 --lake lakes/ckplus --system fersnet")
def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="Without one: all tables.")
    ] = None,
    *,
    lake: Annotated[Path | None, typer.Option(metavar="DIR", help="By `mien ingest`.")] = None,
    system: Annotated[
        list[str] | None, typer.Option(metavar="SYSTEM", help="By default all of the table.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Shorter than the paper's: small, tiny.")] = "paper",
    folds: Annotated[int | None, typer.Option(help="Fewer than the protocol's.")] = None,
    images: Annotated[int | None, typer.Option(help="Train on so many only.")] = None,
    settings: Settings = None,
    parallel: Parallel = 1,
    allow_leaks: AllowLeaks = False,
    experiment: Experiment = "reproduce",
    as_json: AsJson = False,
) -> None:
    """A published table under its own protocol, the paper's figures beside ours."""
    from trainer import reproduce as published

    if name is None:
        known = {key: one.as_json() for key, one in published.tables().items()}
        show({"tables": known}, [tables.published(known)], as_json)
        return
    if lake is None:
        found = published.table_named(name).as_json()
        show(found, tables.protocol(found), as_json)
        return
    with working("reproduce"), terminal.progress("reproducing"):
        values = published.reproduce(
            name,
            lake,
            recipe=recipe,
            systems=system or (),
            folds=folds,
            images=images,
            settings=_pairs(settings, "--set"),
            parallel=parallel,
            experiment=experiment,
            allow_leaks=allow_leaks,
        )
    show(values, tables.reproduced(values), as_json)


@app.command(epilog="Example: mien compare mien --html comparison.html")
def compare(
    experiment: Annotated[str, typer.Argument(help="The MLflow experiment.")] = "mien",
    *,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One page with everything; MLflow keeps it.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="One line per row.")] = None,
    latex: Annotated[Path | None, typer.Option(metavar="FILE", help="Tables for a paper.")] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also every two of the best rows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Runs, folds and trials side by side, from MLflow, with intervals and paired tests."""
    with working("compare"), terminal.progress("reading"):
        from cluster.home import tracking_uri
        from tuning import report
        from tuning.compare import compare as read_back

        found = read_back(tracking_uri(), experiment)
        for text, path in ((found.csv, csv), (found.latex, latex)):
            if path is not None:
                report.write(text(), path)
        if html is not None:
            from tuning.publish import publish

            publish(tracking_uri(), found, html)
    show(found.as_json(), [found.table(), *(found.pairs() if pairs else ())], as_json)


@app.command(epilog="Example: mien runs")
def runs(as_json: AsJson = False) -> None:
    """What is running and what ran."""
    from trainer import runs as known

    rows = known.rows()
    show({"runs": rows}, [tables.runs(rows)], as_json)


@app.command(epilog="Example: mien stop 3f2a")
def stop(run: Run, as_json: AsJson = False) -> None:
    """Stop a run; it saves a checkpoint first."""
    from trainer import runs as known

    with terminal.progress("saving"):
        values = known.stop(run)
    show(values, [f"run {values['run_id']}: {values['state']}"], as_json)


@app.command(epilog="Example: mien edit 3f2a me.jpg --to happiness --intensity 0.5 --out happy.png")
def edit(
    run: Run,
    image: Photo,
    *,
    to: Annotated[str, typer.Option(metavar="EXPRESSION")],
    intensity: Annotated[float | None, typer.Option(help="0 to 1, where the system can.")] = None,
    out: Out,
    face: FaceOnly = False,
    as_json: AsJson = False,
) -> None:
    """Give the main face in a photograph another expression."""
    with working("edit"), terminal.progress("editing"):
        from trainer.edit import edit as edit_face

        done = edit_face(run, image, to, intensity=intensity, out=out, face_only=face)
    show(done.as_json(), [f"{done.out}: {done.to}; {_placed(done.alignment)}"], as_json)


@app.command(epilog="Example: mien transfer 3f2a laughing.jpg me.jpg --out me-laughing.png")
def transfer(
    run: Run,
    source: Annotated[Path, typer.Argument(help="A photograph that shows the expression.")],
    target: Annotated[Path, typer.Argument(help="The photograph that gets it.")],
    *,
    expression: Annotated[
        str | None, typer.Option(help="What SOURCE shows; else the system or a judge reads it.")
    ] = None,
    out: Out,
    face: FaceOnly = False,
    as_json: AsJson = False,
) -> None:
    """Give the main face of TARGET the expression that the main face of SOURCE shows."""
    with working("transfer"), terminal.progress("transferring"):
        from trainer.edit import transfer as transfer_expression

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
    out: Annotated[Path, typer.Option(metavar="FILE", help="A PNG (strip) or a GIF (moving).")],
    as_json: AsJson = False,
) -> None:
    """Show the main face of a photograph with all expressions, at rising intensity."""
    with working("sweep"), terminal.progress("sweeping"):
        from trainer.sweep import sweep as sweep_face

        done = sweep_face(run, image, out=out, to=to or (), levels=levels)
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
    """Name the expression in photographs and videos, one by one or by the folder."""
    with working("recognise"), terminal.progress("recognising"):
        from trainer.recognise import recognise as name_faces

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


@app.command(epilog="Example: mien export 3f2a --out models/smile")
def export(
    run: Run,
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    as_json: AsJson = False,
) -> None:
    """Write a run as ONNX and torch.export, checked against the original."""
    with working("export"), terminal.progress("exporting"):
        from trainer.export import export as export_run

        done = export_run(run, out)
    rows = [(name, f"{value:.1e}") for name, value in done.differences.items()]
    shown = table(("file", "differs by"), rows)
    said = f"{done.out}: {', '.join(done.inputs)} in, {', '.join(done.outputs)} out"
    show(done.as_json(), [shown, said], as_json)


@server.command("start", epilog="Example: mien server start --port 5000")
def server_start(
    host: Annotated[str, typer.Option(help="The interface that it listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A name that others call it by.")
    ] = None,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Keep runs in a PostgreSQL of this home, for good.")
    ] = False,
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the server, and PostgreSQL behind it if it is to have one; wait until both answer."""
    from cluster import mlflow_server

    if (tls_certificate is None) != (tls_key is None):
        raise ValueError("TLS needs both, --tls-certificate and --tls-key")
    tls = (
        mlflow_server.Tls(certificate=tls_certificate, key=tls_key)
        if tls_certificate and tls_key
        else None
    )
    with terminal.progress("starting"):
        state = mlflow_server.start(
            host=host, port=port, allowed_hosts=allow or (), own_postgres=postgres, tls=tls
        )
    told = f"MLflow: {state.address}  (user mien, password in {state.password_file})"
    show(state.as_json(), [told, f"log: {state.log}"], as_json)


@server.command("stop", epilog="Example: mien server stop")
def server_stop(as_json: AsJson = False) -> None:
    """Stop the server that this home started."""
    from cluster import mlflow_server

    state = mlflow_server.stop()
    text = "stopped" if state.running else "nothing was running"
    show({**state.as_json(), "running": False}, [text], as_json)


@server.command("status", epilog="Example: mien server status")
def server_status(as_json: AsJson = False) -> None:
    """Whether it runs, and where."""
    from cluster import mlflow_server

    state = mlflow_server.status()
    text = f"running at {state.address}" if state.running else "not running"
    show(state.as_json(), [f"MLflow: {text}; store: {state.store}"], as_json)


@machines.command("check", epilog="Example: mien cluster check ray_cluster.yaml")
def cluster_check(file: ClusterFile = RAY_CLUSTER, as_json: AsJson = False) -> None:
    """Read the file as `up` will; says in which line which key is wrong."""
    from cluster.config import check

    found = check(file)
    show({"found": found}, [f"{file}: {found}; nothing is wrong"], as_json)


@machines.command(
    "wait", epilog="Example: mien cluster wait --nodes 3, with --address auto before cluster"
)
def cluster_wait(
    nodes: Annotated[int, typer.Option(min=1, help="How many are to be there.")],
    seconds: Annotated[float, typer.Option(help="How long to wait for them.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Wait until so many nodes have joined the Ray at --address."""
    from cluster.session import connect, wait_for_nodes

    with working("cluster-wait"), terminal.progress("waiting"), connect():
        wait_for_nodes(nodes, seconds)
    show({"nodes": nodes}, [f"{nodes} nodes are there"], as_json)


@machines.command("up", epilog="Example: mien cluster up ray_cluster.yaml")
def cluster_up(file: ClusterFile = RAY_CLUSTER, as_json: AsJson = False) -> None:
    """Start Ray on every machine, and wait until all have joined."""
    from cluster import launcher
    from cluster.config import read

    config = read(file)
    with working("cluster-up"), terminal.progress("starting"):
        states = launcher.up(config)
    show({"hosts": [one.as_json() for one in states]}, [tables.hosts(states)], as_json)
    terminal.say(f"on {config.head}: mien --address auto train ...")


@machines.command("status", epilog="Example: mien cluster status ray_cluster.yaml")
def cluster_status(file: ClusterFile = RAY_CLUSTER, as_json: AsJson = False) -> None:
    """Which machines are there; exit code 1 when one of them is not."""
    from cluster import launcher
    from cluster.config import read

    with terminal.progress("asking the head"):
        states = launcher.status(read(file))
    show({"hosts": [one.as_json() for one in states]}, [tables.hosts(states)], as_json)
    if not all(one.alive for one in states):
        raise typer.Exit(terminal.FAILED)


@machines.command("down", epilog="Example: mien cluster down ray_cluster.yaml")
def cluster_down(file: ClusterFile = RAY_CLUSTER, as_json: AsJson = False) -> None:
    """End every Ray process of that user on every machine."""
    from cluster import launcher
    from cluster.config import read

    config = read(file)
    with terminal.progress("stopping"):
        unreached = launcher.down(config)
    text = f"not reached: {', '.join(unreached)}" if unreached else "stopped everywhere"
    show({"unreached": list(unreached)}, [text], as_json)
    if unreached:
        raise typer.Exit(terminal.FAILED)


@app.command(epilog="Example: mien doctor; of a cluster: mien --address auto doctor")
def doctor(
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also check this ray_cluster.yaml.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What is installed, what is missing, what would fail, and how to mend it."""
    from cluster.doctor import examine

    with terminal.progress("checking"):
        checks = examine(cluster)
        if os.environ.get("RAY_ADDRESS"):
            from cluster.nodes import examine_nodes
            from cluster.session import connect

            with connect():
                checks += tuple(examine_nodes())
    rows = [(one.state, one.name, one.found, one.mend) for one in checks]
    shown = table(("", "what", "found", "how to mend it"), rows)
    show({"checks": [one.as_json() for one in checks]}, [shown], as_json)
    if any(one.state == "fail" for one in checks):
        raise typer.Exit(terminal.FAILED)


def _chosen(
    system: str | None, lake: Path | None, fold: str | None, study: str | None, allow_leaks: bool
) -> tuple[Any, Path, str | None, str | None]:
    """The recipe, or a study's best setting; lake and fold for it; the study that saw the fold."""
    from trainer import catalog

    if study is None:
        if system is None or lake is None:
            raise ValueError("SYSTEM and --lake are needed, or --resume RUN, or --from-study STUDY")
        return catalog.recipe(system), lake, fold, None
    if system is not None:
        raise ValueError(f"--from-study {study} names its system; leave {system} out")
    from tuning.studies import best_of

    best = best_of(study)
    return best.run, lake or best.lake, *best.fold_on(lake, fold, allow_leaks=allow_leaks)


def _run(system: str, *options: Any) -> Any:
    """The recipe with the options that were given."""
    from trainer import catalog

    return _changed(catalog.recipe(system), *options)


def _changed(
    run: Any,
    settings: list[str] | None,
    workers: int | None = None,
    zero: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
) -> Any:
    """The run with the options that were given."""
    from trainer.overrides import with_overrides

    options = {
        "engine.workers": workers,
        "engine.zero": zero,
        "engine.precision": precision,
        "seed": seed,
    }
    given = {path: value for path, value in options.items() if value is not None}
    return with_overrides(run, {**given, **_pairs(settings, "--set")})


def _share(synthetic: Path | None, share: float | None) -> list[str]:
    """The setting that --share stands for; ValueError for a pool without one."""
    if synthetic is not None and share is None:
        raise ValueError("--synthetic needs --share, such as --share 0.3")
    return [] if share is None else [f"data.synthetic_share={share}"]


def _polled(name: str, *values: Any) -> Callable[[], tuple[int, int] | None]:
    """Asks `trainer.runs` about the runs that started after this moment."""
    began = time.time()

    def poll() -> tuple[int, int] | None:
        from trainer import runs as known

        return getattr(known, name)(began, *values)

    return poll


def _placed(alignment: str) -> str:
    return f"the face was placed by {alignment}"


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping; ValueError for one without an equals sign."""
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"{option} {text}: it must look like PATH=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _plain(text: str) -> bool | int | float | str:
    """An option of a corpus as the value that it looks like."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def main() -> None:
    """The entry point; see `cluster.terminal.run` for the exit codes."""
    sys.exit(terminal.run(lambda: app(prog_name="mien", standalone_mode=False)))


if __name__ == "__main__":
    main()
