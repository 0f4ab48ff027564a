"""Ports of loopback: free ones, and whether somebody listens."""

from __future__ import annotations

import random
import socket
import time

HOST = "127.0.0.1"
# Below the range from which systems take the ports of outgoing connections, so that a port is still
# free when its server is started again.
_RANGE = range(20_000, 32_000)


def free_port() -> int:
    """Return a port that nobody listens on; at random, so that processes seldom choose the same."""
    while True:
        port = random.choice(_RANGE)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def is_open(port: int, host: str = HOST) -> bool:
    """Tell whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def await_open(port: int, patience: float) -> None:
    """Return when somebody listens there.

    Raises:
        TimeoutError: Nobody did for `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while not is_open(port):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens at {port} after {patience:g} s")
        time.sleep(0.02)
