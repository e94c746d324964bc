"""What a stranger may try at a port: requests without credentials, and Ray's own routes."""

from __future__ import annotations

import http.client
import re
from pathlib import Path
from urllib.parse import urlsplit

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
RAY_ALIVE = {"/api/healthz", "/api/gcs_healthz", "/api/local_raylet_healthz", "/-/healthz"}
RAY_OPEN = {"/", "/favicon.ico", "/api/authentication_mode", "/api/authenticate", *RAY_ALIVE}
"""Ray's own list: its page without data, whether a token is wanted, and whether it lives."""


def status_of(
    address: str,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    seconds: float = 20,
) -> int:
    """The status of one request, which must not follow redirects.

    OSError or HTTPException where nobody is there, or speaks HTTP.
    """
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=seconds)
    try:
        connection.request(method, path, body=b"{}", headers=headers or {})
        return connection.getresponse().status
    finally:
        connection.close()


def speaks_http(address: str) -> bool:
    """Whether what listens there answers a request at all."""
    try:
        return bool(status_of(address, "GET", "/", seconds=5))
    except (OSError, http.client.HTTPException):
        return False


def ray_paths() -> set[str]:
    """Every path that the dashboard's modules declare, with something for each variable."""
    import ray.dashboard

    found = set()
    for source in Path(ray.dashboard.__file__).parent.rglob("*.py"):
        for path in re.findall(
            r"@routes\.\w+\(\s*f?\"(/[^\"]*)\"", source.read_text(errors="replace")
        ):
            found.add(re.sub(r"\{[^}]*\}", "x", path))
    return found | {
        "/logs",
        "/api/jobs/",
        "/api/v0/nodes",
        "/nodes?view=summary",
        "/api/actors/kill",
    }
