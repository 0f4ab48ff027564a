"""One server for all processes of a run: whoever leaves last ends it, whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.processes import is_running

ROOT = Path(__file__).parents[2]
USER = """
import subprocess, sys
from tests.services.sharing import Served, shared

def start():
    server = subprocess.Popen(["sleep", "60"])
    return Served(str(server.pid), server)

print(shared("sleeper", start), flush=True)
sys.stdin.read()
"""


class Runs:
    """Makes processes of test runs, which use the same server in a run."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._environment = {**os.environ, "TMPDIR": str(folder)}
        self._stack = stack

    def user(self, run: str) -> tuple[subprocess.Popen[str], int]:
        """Start one; return it and the process of its server."""
        user = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", USER],
                cwd=ROOT,
                env={**self._environment, "PYTEST_XDIST_TESTRUNUID": run},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert user.stdout is not None
        return user, int(user.stdout.readline())


@pytest.fixture
def runs(tmp_path: Path) -> Generator[Runs]:
    with ExitStack() as stack:
        yield Runs(tmp_path, stack)


def leave(user: subprocess.Popen[str]) -> None:
    assert user.stdin is not None
    user.stdin.close()
    assert user.wait(10) == 0


def until_gone(server: int) -> None:
    deadline = time.monotonic() + 10
    while is_running(server):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_starts_it_and_the_last_ends_it(runs: Runs) -> None:
    first, server = runs.user("one")
    second, same = runs.user("one")
    assert same == server
    leave(first)
    third, same = runs.user("one")
    assert same == server
    leave(third)
    assert is_running(server)
    leave(second)
    until_gone(server)


def test_another_run_has_another_one(runs: Runs) -> None:
    first, server = runs.user("one")
    second, other = runs.user("two")
    assert other != server
    leave(first)
    until_gone(server)
    assert is_running(other)
    leave(second)
    until_gone(other)
