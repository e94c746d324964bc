"""What a person sees of a command: progress, tables, one line per error, one JSON object.

While a command works, everything that libraries print goes to its log file, also what their C++
parts and child processes write; only this module still writes to the terminal.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from typer.exceptions import TyperException

from cluster.home import home
from cluster.interrupt import interrupt

DONE, FAILED, WRONG_INPUT = 0, 1, 2
PROJECT = Path(__file__).resolve().parents[1]
PIPE_COLUMNS = 150
USER_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)


class _Screen:
    """The terminal's two streams, and the log of the command under way."""

    def __init__(self) -> None:
        self.out = _console(None)
        self.err = Console(stderr=True, soft_wrap=True)
        self.log_file: Path | None = None
        self.diverted = False

    def divert(self, log_file: Path) -> None:
        """From now on file descriptors 1 and 2 are the log; the consoles keep the terminal.

        Only where Python's streams are the process' own: a caller that put others in their place
        (a test) has already decided where output goes.
        """
        self.log_file = log_file
        if self.diverted or sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        self.out = _console(os.fdopen(os.dup(1), "w"))
        self.err = Console(file=os.fdopen(os.dup(2), "w"), soft_wrap=True)
        with log_file.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        self.diverted = True


def _console(file: IO[str] | None) -> Console:
    """Standard output, or the file in its place; wide where no terminal says how wide it is."""
    terminal = (file or sys.stdout).isatty()
    return Console(file=file, width=None if terminal else PIPE_COLUMNS, soft_wrap=True)


_screen = _Screen()


@contextmanager
def working(command: str) -> Iterator[Path]:
    """A command that takes time: gives its log file, which gets the traceback if it fails.

    Where it is stopped, what it says of going on is shown; Typer would end without a word.
    """
    log_file = _new_log(command)
    handler = logging.FileHandler(log_file)
    logging.getLogger().addHandler(handler)
    _screen.divert(log_file)
    try:
        yield log_file
    except KeyboardInterrupt as stopped:
        raise typer.Exit(report(stopped)) from None
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    say(f"log: {log_file}")


def _new_log(command: str) -> Path:
    folder = home() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{os.getpid()}.log"
    path.touch()
    return path


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, if there is one; the block calls what it gets with (done, total)."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown = _screen.err.is_terminal
    with Progress(
        *columns,
        console=_screen.err,
        transient=True,
        disable=not shown,
        redirect_stdout=False,  # what libraries print goes to the log, not above the bar
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def watching(description: str, poll: Callable[[], tuple[int, int] | None]) -> Iterator[None]:
    """A bar that moves by itself: `poll` is asked twice a second for (done, total).

    Where no terminal shows a bar, nobody is asked.
    """
    if not _screen.err.is_terminal:
        yield
        return
    ended = threading.Event()
    with progress(description) as update:

        def look() -> None:
            while not ended.wait(0.5):
                if found := poll():
                    update(*found)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def say(text: str) -> None:
    """One line beside the result, on stderr."""
    _screen.err.print(text, markup=False, highlight=False, style="dim")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """Rows under headings; numbers stand to the right, and the first column is never folded."""
    made = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        numeric = rows and all(isinstance(row[number], (int, float)) for row in rows)
        side = "right" if numeric else "left"
        made.add_column(column, justify=side, overflow="fold", no_wrap=number == 0)
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(values: Mapping[str, Any], renderables: Sequence[Any], as_json: bool) -> None:
    """The result: for people, or as one JSON object in the last line."""
    if not as_json:
        for renderable in renderables:
            soft = not isinstance(renderable, Table)
            _screen.out.print(renderable, markup=False, highlight=False, soft_wrap=soft)
        return
    line = json.dumps(_finite(values), ensure_ascii=False, default=str)
    _screen.out.file.write(line + "\n")
    _screen.out.file.flush()


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def run(command: Callable[[], Any]) -> int:
    """Calls the command line and tells its exit code: 0 done, 1 failed, 2 the input is wrong.

    The command runs in a thread of its own, so that no library can take the signals for itself. At
    Ctrl-C or SIGTERM what trains saves and stops; where nothing can, the process ends at once.
    """
    ended: dict[str, Any] = {}

    def call() -> None:
        try:
            ended["code"] = command() or DONE
        except BaseException as error:
            ended["code"] = report(error)

    thread = threading.Thread(target=call, name="mien", daemon=True)
    before = {number: signal.signal(number, _asked_to_end) for number in _SIGNALS}
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
    except KeyboardInterrupt:
        _screen.err.print("mien: interrupted", highlight=False)
        return FAILED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ended["code"]


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _asked_to_end(number: int, frame: Any) -> None:
    again = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _end}
    for one in _SIGNALS:
        signal.signal(one, again[one])
    if not interrupt():
        raise KeyboardInterrupt
    say("saving a checkpoint, then ending; Ctrl-C again ends at once")


def _end(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def report(error: BaseException) -> int:
    """One line on stderr for what went wrong, and the exit code that says whose doing it was."""
    if isinstance(error, TyperException):
        _complain(f"{error.format_message()}{_usage(error)}{_misplaced(error)}")
        return WRONG_INPUT
    if isinstance(error, KeyboardInterrupt):
        _complain(str(error) or "interrupted")
        return FAILED
    if isinstance(error.__context__, BrokenPipeError) and isinstance(error, SystemExit):
        return FAILED  # who reads our output has seen enough of it, as `head` has
    cause = _root(error)
    if _is_wrong_input(cause, str(getattr(error, "traceback_str", ""))):
        _complain(_one_line(cause))
        return WRONG_INPUT
    _complain(f"failed: {_one_line(cause) or type(cause).__name__}{_kept(error)}")
    return FAILED


def _kept(error: BaseException) -> str:
    """Where the traceback is to be read."""
    try:
        log_file = _screen.log_file or _new_log("mien")
        with log_file.open("a") as log:
            traceback.print_exception(error, file=log)
    except OSError as full:
        return f"; its log could not be written: {full.strerror}"
    return f"; log with the traceback: {log_file}"


def _complain(text: str) -> None:
    _screen.err.print(f"mien: {text}", markup=False, highlight=False)


def _usage(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context else ""


def _misplaced(error: TyperException) -> str:
    """The one option that stands before the command, which people look for behind it."""
    if getattr(error, "option_name", None) != "--address":
        return ""
    return "; it stands before the command: mien --address ADDRESS train ..."


def _root(error: BaseException) -> BaseException:
    """The error behind those that Ray wraps around what a task or a worker raised."""
    while True:
        inner = getattr(error, "cause", None) or getattr(error, "controller_failure", None)
        workers = getattr(error, "worker_failures", None)
        if isinstance(workers, Mapping) and workers:
            inner = next(iter(workers.values()))
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _is_wrong_input(error: BaseException, told: str) -> bool:
    """Whether mien's own code refused the input, and not a library in the depths below it."""
    if isinstance(error, OSError):
        return isinstance(error, USER_ERRORS)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:  # it comes from another process, which kept them to itself
        return isinstance(error, ValueError) and not _is_librarys(told)
    place = Path(frames[-1].filename)
    ours = place.is_relative_to(PROJECT) and "site-packages" not in place.parts
    return isinstance(error, ValueError) and ours


def _is_librarys(told: str) -> bool:
    """Whether the text of a traceback ends in a library; there the project lies anywhere."""
    files = re.findall(r'File "([^"]+)", line', told)
    return bool(files) and re.search(r"/(site|dist)-packages/|/lib/python3", files[-1]) is not None


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
