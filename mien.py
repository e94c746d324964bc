"""The command line: what the `commands.py` of each room tells, as one program; and `train`, which
may ask a study for its setting. Each command parses, calls one function, and shows.

Modules are imported where they are used, so that `--help` does not wait for torch and Ray.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import cluster.commands
import data_service.commands
import trainer.commands
import trainer.inference.commands
import tuning.commands
from cluster import tables, terminal
from cluster.options import (
    AllowLeaks,
    AsJson,
    Experiment,
    Init,
    InitMap,
    InitOnly,
    Name,
    Precision,
    RecipeToBegin,
    Seed,
    Settings,
    Workers,
    Zero,
)
from cluster.terminal import show, working
from data_service.options import LakeToBegin

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
    "Training and testing": trainer.commands.app,
    "Searching and comparing": tuning.commands.app,
    "Data": data_service.commands.app,
    "Photographs": trainer.inference.commands.app,
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
    context: typer.Context,
    system: RecipeToBegin = None,
    *,
    lake: LakeToBegin = None,
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
    init_map: InitMap = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    allow_leaks: AllowLeaks = False,
    synthetic: Annotated[
        str | None,
        typer.Option(metavar="POOL|live:RUN", help="By `mien synthesise`, or made meanwhile."),
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Of what is shown, from the pool: 0 to 0.9.")
    ] = None,
    from_study: Annotated[
        str | None,
        typer.Option(metavar="STUDY[:N]", help="The best setting of `mien tune`, or its trial N."),
    ] = None,
    experiment: Experiment = "mien",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Train one fold; Ctrl-C saves a checkpoint and ends, --resume goes on from it."""
    with working("train"), terminal.watching("images", _newest()):
        from trainer import job, launch
        from trainer.options import check_resume_alone, chosen_run

        if resume is not None:
            check_resume_alone(context)
            found = job.load(job.find(resume))
            result = launch.train(found.run, found.lake, resume=resume)
        else:
            chosen, lake, fold, seen_by = _chosen(
                system, lake, fold, from_study, settings, allow_leaks
            )
            settings = [*(settings or ()), *_share(synthetic, share)]
            result = launch.train(
                chosen_run(chosen, settings, workers, zero, precision, seed),
                lake,
                fold=fold,
                seen_by=seen_by,
                experiment=experiment,
                name=name,
                init=init,
                init_only=init_only,
                init_map=init_map or (),
                allow_leaks=allow_leaks,
                synthetic=synthetic,
            )
    show(result.as_json(), tables.result(result.as_json()), as_json)
    if result.status == "stopped":
        terminal.say(f"stopped; to go on: mien train --resume {result.run_id}")
        raise typer.Exit(terminal.FAILED)


def _chosen(
    system: str | None,
    lake: Path | None,
    fold: str | None,
    study: str | None,
    settings: Sequence[str] | None,
    allow_leaks: bool,
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

    if any(one.partition("=")[0].strip() == "data.classes" for one in settings or ()):
        raise ValueError(
            f"study '{study}' chose by folds of its own classes, and other classes make other "
            "folds; leave data.classes out"
        )
    best = best_of(study)
    return best.run, lake or best.lake, *best.fold_on(lake, fold, allow_leaks=allow_leaks)


def _share(synthetic: str | None, share: float | None) -> list[str]:
    """The setting that --share stands for; ValueError for a pool without one."""
    if synthetic is not None and share is None:
        raise ValueError("--synthetic needs --share, such as --share 0.3")
    return [] if share is None else [f"data.synthetic_share={share}"]


def _newest() -> Callable[[], tuple[int, int] | None]:
    """Asks how many images the newest run has done that goes on after this moment."""
    began = time.time()

    def poll() -> tuple[int, int] | None:
        from trainer import runs

        return runs.images_done(began)

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
