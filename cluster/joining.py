"""Where a running Ray listens, asked before Ray itself asks, which goes on asking for minutes."""

from __future__ import annotations

import socket

CONNECT_SECONDS = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listens_on_loopback_alone(address: str) -> bool:
    """Whether the Ray at this loopback address listens nowhere else on this machine.

    Ray takes a loopback address for the machine's own, where such a Ray is not found.
    ConnectionError where nothing listens at `host:port`; anything else, such as `auto`, is for Ray
    to find.
    """
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdecimal() or "/" in host:
        return False
    if host not in LOOPBACK:
        _knock(host, int(port))
        return False
    from ray.util import get_node_ip_address

    try:
        _knock(get_node_ip_address(), int(port))
        return False
    except ConnectionError:
        _knock(host, int(port))
        return True


def _knock(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"nothing listens there ({error.strerror or error}).") from None
