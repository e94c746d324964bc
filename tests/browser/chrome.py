"""A headless Chromium that is told what to do over two pipes (Chrome DevTools protocol)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
PATIENCE_SECONDS = 120.0
READS, WRITES = 3, 4
"""The descriptors that the browser reads what to do from, and answers at."""


class Tab:
    """The one page of a browser. Its clock is the real one."""

    def __init__(self, commands: IO[bytes], answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._session, self._number, self._left = "", 0, b""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        self.ask("Page.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers. RuntimeError where it refuses, TimeoutError where it hangs."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": params}
        if self._session:
            call["sessionId"] = self._session
        self._commands.write(json.dumps(call).encode() + b"\0")
        self._commands.flush()
        while (said := self._next()).get("id") != self._number:
            pass
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']['message']}")
        return said["result"]

    def _next(self) -> dict[str, Any]:
        """The next answer or event."""
        until = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._answers], [], [], max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError(f"the browser was silent for {PATIENCE_SECONDS:.0f} s")
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise RuntimeError("the browser ended")
            self._left += part
        whole, self._left = self._left.split(b"\0", 1)
        return json.loads(whole)

    def show(self, file: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open the file on a screen of so many CSS pixels, as a phone below 600; until loaded."""
        phone = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "mobile": phone},
            deviceScaleFactor=2 if phone else 1,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=file.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """The value of the script, awaited where it is a promise. RuntimeError where it throws."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """The page as a PNG, all of it or what is in view."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A browser of its own, whose profile lies in that folder; ended with the block."""
    there, commands = os.pipe()
    answers, back = os.pipe()
    # Out of the way of the numbers that the browser is to find its ends at.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there, back)]
    os.close(there)
    os.close(back)

    def place() -> None:
        os.dup2(ends[0], READS)
        os.dup2(ends[1], WRITES)

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    process = subprocess.Popen(
        [str(BROWSER), *options, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        preexec_fn=place,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in ends:
        os.close(end)
    try:
        with os.fdopen(commands, "wb") as writer:
            yield Tab(writer, answers)
    finally:
        process.kill()
        process.wait()
        os.close(answers)
