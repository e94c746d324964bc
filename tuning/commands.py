"""Commands over many runs: search settings, compare what came of them."""

from pathlib import Path
from typing import Annotated

import typer

from cluster import tables, terminal
from cluster.options import (
    AllowLeaks,
    AsJson,
    Experiment,
    Name,
    Parallel,
    Recipe,
    Settings,
)
from cluster.terminal import show, working
from data_service.options import LakeOption

app = typer.Typer()

ASYNCHRONOUS = "asynchronous: begun anew, this search may try other settings"
"""Said of a search that hangs on the clock."""
NO_TEST = "folds of all subjects leave none to test what is chosen; --outer K/N sets some aside"
"""Said before a search spends its hours."""


@app.command(
    epilog="Example: mien tune fersnet.small --lake faces --trials 6 --search lambda_cls=0.1:9:log",
)
def tune(
    system: Recipe,
    *,
    lake: LakeOption,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try, all together.")],
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=LOW:HIGH[:log]",
            help="What is searched, each with its own --search: a range, a list PATH=a,b,c (of "
            "lists: PATH=16,32|32,64), or a PATH or pattern (system.gates.*, lambda_*) over ready "
            "ranges; '... if OTHER=VALUE' only where OTHER, searched too, is VALUE. Without it: λ, "
            "gates, all that is ready.",
        ),
    ] = None,
    objective: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What is best, on validation.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds of each trial.")] = 1,
    parallel: Parallel = 1,
    lanes: Annotated[
        int, typer.Option(min=1, help="Settings that each process trains at a time, in turns.")
    ] = 1,
    fused: Annotated[
        bool, typer.Option("--fused", help="The lanes in one pass; same values up to rounding.")
    ] = False,
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
    with working("tune"), terminal.progress("trials") as progress:
        from trainer.options import chosen_run
        from tuning.search import search as run_search
        from tuning.studies import going_on

        if folds > 1 and outer is None:
            terminal.say(NO_TEST)
        values = run_search(
            chosen_run(system, settings),
            lake,
            trials=trials,
            search=search or (),
            objectives=objective or (),
            folds=folds,
            parallel=parallel,
            lanes=lanes,
            fused=fused,
            name=name,
            resume=resume,
            seed=seed,
            outer=outer,
            asynchronous=asynchronous,
            experiment=experiment,
            allow_leaks=allow_leaks,
            on_trial=lambda trial, ended: progress(ended, trials),
        ).as_json()
    order = [ASYNCHRONOUS] if values["asynchronous"] else []
    show(values, [*tables.study(values), *order], as_json)
    if values["status"] == "stopped":
        terminal.say(going_on(values["study"]))
        raise typer.Exit(terminal.FAILED)


@app.command(
    epilog="Example: mien compare mien --html comparison.html",
)
def compare(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Of MLflow.")] = "mien",
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
        for text, path in ((report.csv, csv), (report.latex, latex)):
            if path is not None:
                report.write(text(found), path)
        if html is not None:
            from tuning.publish import publish

            publish(tracking_uri(), found, html)
        tables = [report.table(found), *(report.pairs(found) if pairs else ())]
    show(report.as_json(found), tables, as_json)
