"""A storage service on this machine that speaks as S3 does."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.storage import Place
from tests.ports import free_port


@contextmanager
def s3_bucket(patch: pytest.MonkeyPatch, log: Path) -> Iterator[str]:
    """The address of a bucket; the environment says who may use it, and where."""
    port = free_port()
    given = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    for name, value in given.items():
        patch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as server:
        try:
            _wait(port)
            Place.at("s3://faces/?allow_bucket_creation=true").files.create_dir("faces")
            yield "s3://faces"
        finally:
            server.kill()


def _wait(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the storage service did not start")
