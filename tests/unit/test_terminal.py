"""Where output goes, whose doing an error was, and what a signal does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import typer
from rich.console import Console

from cluster import terminal
from cluster.interrupt import interrupt, on_interrupt

ROOT = Path(__file__).parents[2]


def test_the_json_line_is_json_whatever_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show({"accuracy": float("nan"), "terms": [{"loss": float("inf")}, 0.5]}, [], True)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    line = capsys.readouterr().out.splitlines()[-1]
    told = json.loads(line, parse_constant=refuse)
    assert told == {"accuracy": None, "terms": [{"loss": None}, 0.5]}


def test_chatter_goes_to_the_log_and_not_to_the_terminal(tmp_path: Path) -> None:
    code = (
        "import os, sys, typer, logging; from cluster import terminal\n"
        "def work():\n"
        "    with terminal.working('chat') as log:\n"
        "        print('python chatter'); os.system('echo child chatter'); os.write(2, b'raw\\n')\n"
        "        logging.getLogger('loud').warning('logged chatter')\n"
        "    terminal.show({'log': str(log)}, [], True)\n"
        "sys.exit(terminal.run(work))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    log = Path(json.loads(found.stdout)["log"])
    assert found.stderr == f"log: {log}\n"
    text = log.read_text()
    for said in ("python chatter", "child chatter", "raw", "logged chatter"):
        assert said in text


def test_chatter_stays_out_of_a_terminal_that_shows_a_bar() -> None:
    code = (
        "import sys; from cluster import terminal\n"
        "with terminal.working('chat'), terminal.progress('faces') as update:\n"
        "    update(1, 2)\n"
        "    print('a word', flush=True)\n"
        "    print('a word', file=sys.stderr, flush=True)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # what a terminal says when its last writer is gone
        while piece := os.read(ours, 1024):
            seen += piece
    os.close(ours)
    assert process.wait() == 0
    assert b"faces" in seen and b"log: " in seen
    assert b"a word" not in seen


def test_nobody_is_asked_for_a_bar_that_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    with terminal.watching("images", lambda: times.append(time.monotonic())):
        time.sleep(0.7)
    assert not times
    shown = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(terminal._screen, "err", shown)
    asked = threading.Event()
    with terminal.watching("images", lambda: asked.set()):
        assert asked.wait(10)


def test_a_reader_that_leaves_is_no_failure() -> None:
    command = f"{sys.executable} mien.py --help | true"
    found = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, check=True)
    assert found.stderr == b""


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            FileNotFoundError(2, "No such file", "x.png"),
            2,
            "No such file: x.png",
        ),
        (OSError(28, "No space left on device", "y"), 1, "failed: No space left on device: y; log"),
        (RuntimeError("the\nworker\ndied"), 1, "failed: the worker died; log"),
        (KeyError("x"), 1, "failed: 'x'; log"),
        (KeyboardInterrupt(), 1, "interrupted"),
    ],
)
def test_whose_doing_an_error_was(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str
) -> None:
    assert terminal.report(error) == code
    assert f"mien: {says}" in capsys.readouterr().err


def test_what_a_stopped_command_says_of_going_on_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = typer.Typer()

    @app.command()
    def train() -> None:
        with terminal.working("train"):
            raise KeyboardInterrupt("stopped; to go on: mien train --resume RUN")

    assert terminal.run(lambda: app([], standalone_mode=False)) == terminal.FAILED
    assert "mien: stopped; to go on: mien train --resume RUN" in capsys.readouterr().err


def test_a_value_error_from_the_depths_of_a_library_is_a_failure() -> None:
    with pytest.raises(ValueError) as own:
        raise ValueError("raised by this very file")
    assert terminal.report(own.value) == terminal.WRONG_INPUT
    with pytest.raises(ValueError) as strange:
        json.loads("{")
    assert terminal.report(strange.value) == terminal.FAILED


def test_what_ray_wraps_is_judged_by_what_is_inside() -> None:
    class WrappedError(Exception):
        cause = ValueError("the lake is gone")

    assert terminal.report(WrappedError("task failed")) == terminal.WRONG_INPUT


def test_a_librarys_value_error_from_another_process_is_a_failure() -> None:
    class WrappedError(Exception):
        cause = ValueError("shapes do not fit")
        traceback_str = 'File "/a/trainer/x.py", line 3\nFile "/b/site-packages/numpy/y.py", line 5'

    assert terminal.report(WrappedError("task failed")) == terminal.FAILED
    WrappedError.traceback_str = 'File "/b/site-packages/ray/z.py", line 1\nFile "/a/x.py", line 3'
    assert terminal.report(WrappedError("task failed")) == terminal.WRONG_INPUT


def test_brackets_in_names_are_names(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show({}, ["lakes/photos[old]", terminal.table(("a[b]",), [["c[/d]"]])], False)
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("lakes/photos[old]", "a[b]", "c[/d]"))


def test_everything_under_way_is_asked_to_stop() -> None:
    asked = []
    assert not interrupt()
    with on_interrupt(lambda: asked.append("outer")), on_interrupt(lambda: asked.append("inner")):
        assert interrupt()
    assert asked == ["outer", "inner"]
    assert not interrupt()


STOPPABLE = """
import sys, threading
from cluster import terminal
from cluster.interrupt import on_interrupt

def work():
    asked = threading.Event()
    with on_interrupt(asked.set):
        print("ready", flush=True)
        assert asked.wait(20)
        print("saved", flush=True)

sys.exit(terminal.run(work))
"""
ENDLESS = """
import sys, time
from cluster import terminal

def work():
    print("ready", flush=True)
    time.sleep(20)

sys.exit(terminal.run(work))
"""


def signalled(code: str, *numbers: signal.Signals) -> tuple[int, str, str, float]:
    """Exit code, output, errors and seconds of a program that gets signals once it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        began = time.monotonic()
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.3)
        out, err = process.communicate(timeout=15)
    return process.returncode, out, err, time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_can_stop_well_is_let_to(number: signal.Signals) -> None:
    code, out, err, _ = signalled(STOPPABLE, number)
    assert (code, out) == (terminal.DONE, "saved\n")
    assert "saving a checkpoint" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_cannot_stop_is_ended_at_once(number: signal.Signals) -> None:
    code, out, err, seconds = signalled(ENDLESS, number)
    assert (code, out, err) == (terminal.FAILED, "", "mien: interrupted\n")
    assert seconds < 10
