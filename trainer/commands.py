"""Commands about systems and their runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import tables, terminal
from cluster.home import directory
from cluster.options import (
    AllowLeaks,
    AsJson,
    Experiment,
    Init,
    InitMap,
    InitOnly,
    Name,
    Parallel,
    Precision,
    RecipeToBegin,
    Run,
    Seed,
    Settings,
    Workers,
    Zero,
    pairs,
)
from cluster.terminal import show, table, working
from data_service.options import LakeOption, LakeToBegin

app = typer.Typer()


@app.command(
    epilog="Example: mien crossval fersnet.small --lake lakes/photos --folds 5",
)
def crossval(
    context: typer.Context,
    system: RecipeToBegin = None,
    *,
    lake: LakeToBegin = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Folds by subject; each is tested once.")
    ] = None,
    parallel: Parallel = 1,
    workers: Workers = None,
    zero: Zero = None,
    precision: Precision = None,
    seed: Seed = None,
    settings: Settings = None,
    init: Init = None,
    init_only: InitOnly = "*",
    init_map: InitMap = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with this cross-validation.")
    ] = None,
    allow_leaks: AllowLeaks = False,
    synthetic: Annotated[Path | None, typer.Option("--synthetic", hidden=True)] = None,
    experiment: Experiment = "mien",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Train and test every fold; one scorecard over all subjects. --resume repeats nothing."""
    with working("crossval"), terminal.progress("folds") as progress:
        from trainer import crossval as folded
        from trainer.options import check_resume_alone, chosen_run

        if resume is not None:
            check_resume_alone(context, "parallel")
            values = folded.resume(resume, parallel=parallel, progress=progress).as_json()
        elif system is None or lake is None or folds is None:
            raise ValueError("SYSTEM, --lake and --folds are needed, or --resume RUN")
        else:
            values = folded.crossval(
                chosen_run(system, settings, workers, zero, precision, seed),
                lake,
                folds,
                parallel=parallel,
                experiment=experiment,
                name=name,
                init=init,
                init_only=init_only,
                init_map=init_map or (),
                allow_leaks=allow_leaks,
                synthetic=synthetic,
                progress=progress,
            ).as_json()
    show(values, tables.result(values), as_json)


@app.command(epilog="Example: mien systems fersnet.small --knobs")
def systems(
    system: Annotated[
        str | None, typer.Argument(metavar="SYSTEM[.RECIPE]", help="By default all.")
    ] = None,
    knobs: Annotated[bool, typer.Option("--knobs", help="Every λ, gate and setting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Systems; of one its recipes; with --knobs every setting with bounds and paper symbol."""
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
    if system is not None:
        return show(*_recipes(system), as_json)
    specs = [catalog.load(name) for name in catalog.names()]
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


def _recipes(asked: str) -> tuple[dict[str, Any], list[Any]]:
    """One recipe of a system or all of them, with what they ask of a lake."""
    from trainer import catalog

    name, _, chosen = asked.partition(".")
    spec = catalog.load(name)
    runs = {one: catalog.recipe(f"{name}.{one}") for one in ([chosen] if chosen else spec.recipes)}
    values = {
        one: {
            "image_size": run.data.image_size,
            "colour": not run.data.grey,
            "batch_images": run.data.global_batch_images,
            "capabilities": sorted(catalog.spec_of(run).capabilities),
            "wants": list(catalog.wants(run)),
        }
        for one, run in runs.items()
    }
    lines = [
        (
            f"{name}.{one}",
            f"{row['image_size']} px, {'colour' if row['colour'] else 'grey'}",
            row["batch_images"],
            ", ".join(row["capabilities"]),
            ", ".join(row["wants"]),
        )
        for one, row in values.items()
    ]
    shown = table(("recipe", "faces", "batch", "can", "makes use of"), lines)
    return {"system": name, "title": spec.title, "recipes": values}, [spec.title, shown]


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
    actors: Annotated[int, typer.Option(min=0, help="Ray actors; 0: in this process.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fill the rare classes of a fold's training faces; for `mien train --synthetic POOL`."""
    if until != "equal" and not until.isdecimal():
        raise ValueError(f"--until {until}: valid: equal, or a number of faces")
    with working("synthesise"), terminal.progress("faces") as progress:
        from trainer.synthetic.synthesise import synthesise as fill_pool
        from trainer.synthetic.synthesise import told

        pool = fill_pool(
            run,
            lake,
            out,
            fold=fold,
            until="equal" if until == "equal" else int(until),
            gate=gate,
            actors=actors,
            progress=progress,
        )
    show(told(pool), tables.pool(told(pool)), as_json)


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
    lake: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR|ADDRESS",
            help="Made by `mien ingest`; of several official splits one for each.",
        ),
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option(metavar="SYSTEM", help="By default all of the table.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Shorter than the paper's: small, tiny.")] = "paper",
    folds: Annotated[int | None, typer.Option(min=2, help="Fewer than the protocol's.")] = None,
    images: Annotated[int | None, typer.Option(help="Train on so many only.")] = None,
    settings: Settings = None,
    init: Init = None,
    init_only: InitOnly = "*",
    init_map: InitMap = None,
    parallel: Parallel = 1,
    allow_leaks: AllowLeaks = False,
    experiment: Experiment = "reproduce",
    as_json: AsJson = False,
) -> None:
    """A published table under its own protocol, the paper's figures beside ours."""
    from trainer import published

    if name is None:
        known = {key: one.as_json() for key, one in published.tables().items()}
        show({"tables": known}, [tables.published(known)], as_json)
        return
    if not lake:
        found = published.table_named(name).as_json()
        show(found, tables.protocol(found), as_json)
        return
    with working("reproduce"), terminal.progress("reproducing"):
        from data_service.lakes.elsewhere import lake_place
        from trainer.reproduce import reproduce as run_table

        values = run_table(
            name,
            [place for one in lake if (place := lake_place(one))],
            recipe=recipe,
            systems=system or (),
            folds=folds,
            images=images,
            settings=pairs(settings, "--set"),
            init=init,
            init_only=init_only,
            init_map=init_map or (),
            parallel=parallel,
            experiment=experiment,
            allow_leaks=allow_leaks,
        )
    show(values, tables.reproduced(values), as_json)


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


@app.command(epilog="Example: mien export 3f2a --out models/smile")
def export(
    run: Run,
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    as_json: AsJson = False,
) -> None:
    """Write a run as ONNX and torch.export, checked against the original.

    It answers to each face as it is given; `mien evaluate` and `mien recognise` take the mean with
    its mirror image, where the run has `evaluation.flip`.
    """
    with working("export"), terminal.progress("exporting"):
        from trainer.inference.export import export as export_run

        done = export_run(run, out)
    rows = [(name, f"{value:.1e}") for name, value in done.differences.items()]
    shown = table(("file", "differs by"), rows)
    said = f"{done.out}: {', '.join(done.inputs)} in, {', '.join(done.outputs)} out"
    show(done.as_json(), [shown, said], as_json)


@app.command(epilog="Example: mien register 3f2a expressions --alias champion")
def register(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model of MLflow's registry.")],
    *,
    alias: Annotated[str, typer.Option(help="Moves to this version.")] = "newest",
    as_json: AsJson = False,
) -> None:
    """Put a run into MLflow's model registry: ONNX with a signature, as the newest version."""
    with working("register"), terminal.progress("exporting"):
        from trainer.register import register as register_run

        done = register_run(run, name, alias)
    show(done.as_json(), [f"{done.address} is now version {done.version} of {done.name}"], as_json)
