"""Ports of loopback: free ones, and whether somebody listens."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import time
from functools import cache
from pathlib import Path

HOST = "127.0.0.1"
# Below the range from which systems take the ports of outgoing connections, so that a port is still
# free when its server is started again.
_RANGE = range(20_000, 32_000)
_ours: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on, and that is nobody else's while this process lives."""
    while True:
        port = random.choice(_RANGE)
        if port in _ours or not _reserve(port):
            continue
        _ours.add(port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def _reserve(port: int) -> bool:
    """Keep a port from the other processes that run tests: a server takes seconds to listen."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _reservations() -> int:
    """Return the open file of which one byte stands for each port; never closed, as locks need."""
    path = Path(tempfile.gettempdir()) / f"brokerq-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


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
