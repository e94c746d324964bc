"""MLflow's server behind one door: every request shows the password, whichever route it takes.

MLflow's own authentication is decided route by route, and routes have been forgotten more than once
(CVE-2026-2652, CVE-2026-0545, CVE-2026-2651). Here nothing of MLflow runs before the check.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import stat
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

USER = "mien"
OPEN_PATH = "/health"
STORE, DESTINATION, ROOT = "MIEN_MLFLOW_STORE", "MIEN_MLFLOW_ARTIFACTS", "MIEN_MLFLOW_ROOT"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Door:
    """ASGI middleware: HTTP basic authentication for every request but `GET /health`."""

    def __init__(self, app: App, password: str) -> None:
        self._app = app
        word = base64.b64encode(f"{USER}:{password}".encode())
        self._wanted = b"Basic " + word

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._lets_in(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"www-authenticate", b'Basic realm="mien"'), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    def _lets_in(self, scope: Message) -> bool:
        if scope["type"] == "http" and scope["path"] == OPEN_PATH and scope["method"] == "GET":
            return True
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._wanted)


def read_password(path: Path) -> str:
    """The password in a file that nobody but its owner may read; ValueError otherwise."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"{path} holds a password and others may read it; `chmod 600 {path}`")
    if not (password := path.read_text().strip()):
        raise ValueError(f"{path} is to hold a password and is empty; remove it for a new one")
    return password


def main() -> None:
    """Serve MLflow as the environment says; secrets come from files, never from arguments."""
    parser = argparse.ArgumentParser(prog="python -m cluster.mlflow_app")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--tls-certificate", type=Path)
    parser.add_argument("--tls-key", type=Path)
    given = parser.parse_args()
    password = read_password(given.password_file)
    _configure()
    import uvicorn
    from mlflow.server.fastapi_app import app

    uvicorn.run(
        Door(app, password),  # pyright: ignore[reportArgumentType]
        host=given.host,
        port=given.port,
        log_level="warning",
        ssl_certfile=given.tls_certificate,
        ssl_keyfile=given.tls_key,
    )


def _configure() -> None:
    """What `mlflow server` does before it starts its workers; its names for it are not public."""
    from mlflow.server import constants

    store = os.environ[STORE]
    names = {
        constants.BACKEND_STORE_URI_ENV_VAR: store,
        constants.ARTIFACT_ROOT_ENV_VAR: os.environ[ROOT],
        constants.ARTIFACTS_DESTINATION_ENV_VAR: os.environ[DESTINATION],
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    os.environ.update(names)
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(store, None, os.environ[ROOT])


if __name__ == "__main__":
    main()
