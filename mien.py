"""The command line. What one room does alone is told by that room's `commands.py`; here is what
needs several: training, searching, comparing. Each command parses, calls one function, and shows.

Modules are imported where they are used, so that `--help` does not wait for torch and Ray.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import cluster.commands
import data_service.commands
import trainer.commands
import trainer.photo_commands
from cluster import tables, terminal
from cluster.home import directory
from cluster.options import (
    AllowLeaks,
    AsJson,
    Experiment,
    Init,
    InitOnly,
    LakeOption,
    Name,
    Parallel,
    Precision,
    Recipe,
    Seed,
    Settings,
    Workers,
    Zero,
    pairs,
)
from cluster.terminal import show, working

app = typer.Typer(
    name="mien",
    help="Trains networks that recognise facial expressions, and networks that synthesise them.",
    epilog="Example: mien ingest drawn --lake faces, then: mien train fersnet.small --lake faces",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


ROOMS = {
    "Data": data_service.commands.app,
    "Training and testing": trainer.commands.app,
    "Photographs": trainer.photo_commands.app,
    "Machines": cluster.commands.app,
}


@app.callback()
def common(
    address: Annotated[
        str | None, typer.Option(help="A running Ray, host:port or auto; else a local one starts.")
    ] = None,
) -> None:
    """Trains networks that recognise facial expressions, and networks that synthesise them."""
    if address is not None:
        os.environ["RAY_ADDRESS"] = address


@app.command(
    rich_help_panel="Training and testing",
    epilog="Example: mien train fersnet.small --lake faces --workers 2 --set lambda_cls=2",
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
            _alone(given, allow_leaks or (experiment, init_only) != ("mien", "*"))
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
    rich_help_panel="Training and testing",
    epilog="Example: mien crossval fersnet.small --lake lakes/photos --folds 5",
)
def crossval(
    system: Annotated[str | None, typer.Argument(metavar="SYSTEM[.RECIPE]")] = None,
    *,
    lake: Annotated[
        Path | None, typer.Option(metavar="DIR", help="By `mien ingest`.", callback=directory)
    ] = None,
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
    with working("crossval"), terminal.watching("folds", _polled("runs_ended", folds or 0)):
        from trainer import crossval as folded

        if resume is not None:
            given = (system, lake, folds, workers, zero, precision, seed, settings, init, name)
            given += (synthetic,)
            _alone(given, allow_leaks or (experiment, init_only) != ("mien", "*"))
            values = folded.resume(resume, parallel=parallel).as_json()
        elif system is None or lake is None or folds is None:
            raise ValueError("SYSTEM, --lake and --folds are needed, or --resume RUN")
        else:
            values = folded.crossval(
                _run(system, settings, workers, zero, precision, seed),
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
    rich_help_panel="Training and testing",
    epilog="Example: mien tune fersnet.small --lake faces --trials 6 --search lambda_cls=0.1:9:log",
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


@app.command(
    rich_help_panel="Training and testing",
    epilog="Example: mien compare mien --html comparison.html",
)
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


def _alone(given: tuple[object, ...], changed: bool) -> None:
    """ValueError where --resume does not stand alone."""
    if changed or any(value is not None for value in given):
        raise ValueError("--resume takes everything from the run; give nothing besides it")


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
    return with_overrides(run, {**given, **pairs(settings, "--set")})


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


for panel, room in ROOMS.items():
    for command in (*room.registered_commands, *room.registered_groups):
        command.rich_help_panel = panel
    app.add_typer(room)


def main() -> None:
    """The entry point; see `cluster.terminal.run` for the exit codes."""
    sys.exit(terminal.run(lambda: app(prog_name="mien", standalone_mode=False)))


if __name__ == "__main__":
    main()
