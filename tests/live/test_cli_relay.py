"""A relay as a process of its own: `brokerq relay`."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.live.cli_process import Terminal, until
from tests.unit.cli_app import SHOP

# As with a broker that keeps short delays only.
IMPATIENT = """
from dataclasses import replace
from datetime import timedelta
from brokerq_sqlite import SqliteBroker
from brokerq_sqlite.broker import CAPABILITIES
SHORT = replace(CAPABILITIES, max_delay=timedelta(milliseconds=10))
SqliteBroker.capabilities = property(lambda _: SHORT)
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Generator[Terminal]:
    (tmp_path / "shop.py").write_text(SHOP + IMPATIENT, "utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BROKERQ_")}
    environment |= {"BROKERQ_URL": "sqlite:///jobs.db", "BROKERQ_APP": "shop:bq"}
    opened = Terminal(folder=tmp_path, environment=environment)
    yield opened
    opened.close()


def test_a_relay_publishes_what_is_due_and_runs_nothing(terminal: Terminal) -> None:
    job_id = terminal.do("publish", "pid", "--arg", "n=1", "--delay", "100ms")
    outbox = terminal.read("queues", "ls")["outbox"]
    assert (outbox["waiting"], outbox["overdue_seconds"] >= 0) == (1, True)
    done = terminal.run("relay", "--burst", "--log-format", "json")
    assert (done.returncode, done.stdout) == (0, "")
    assert "1 messages published" in done.stderr
    listed = terminal.read("queues", "ls")
    assert listed["outbox"] == {"waiting": 0, "due": 0, "overdue_seconds": 0}
    ready = {row["queue"]: row["ready"] for row in listed["queues"]}
    assert ready["default"] == 1
    assert terminal.state_of(job_id)["state"] == "scheduled"


def test_a_signal_ends_a_relay(terminal: Terminal) -> None:
    terminal.do("publish", "pid", "--arg", "n=1", "--delay", "1h")
    relay = terminal.start("relay", "shop:bq")
    relay.until_logged("relay starts")
    soon = terminal.do("publish", "pid", "--arg", "n=2", "--delay", "50ms")
    until(lambda: terminal.read("queues", "ls")["outbox"]["waiting"] == 1, what="one is published")
    relay.send(signal.SIGTERM)
    assert relay.code() == 0
    assert "relay ended: 1 messages published" in relay.logged()
    assert terminal.state_of(soon)["state"] == "scheduled"


def test_a_relay_needs_an_app_and_a_store(terminal: Terminal) -> None:
    terminal.environment["BROKERQ_STORE_URL"] = "none://"
    refused = terminal.run("relay")
    assert refused.returncode == 2
    assert "name a store with BROKERQ_STORE_URL" in refused.stderr
    del terminal.environment["BROKERQ_APP"]
    assert "say which app" in terminal.run("relay").stderr
