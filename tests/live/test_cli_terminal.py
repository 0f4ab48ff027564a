"""The command line on a terminal: questions, tables, bars; and two operators at once."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.live.cli_process import Terminal
from tests.unit.cli_app import SHOP


@pytest.fixture
def terminal(tmp_path: Path) -> Generator[Terminal]:
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BROKERQ_")}
    environment |= {
        "BROKERQ_URL": "sqlite:///jobs.db",
        "BROKERQ_APP": "shop:bq",
        "TERM": "xterm-256color",
        "COLUMNS": "200",
    }
    environment.pop("NO_COLOR", None)
    opened = Terminal(folder=tmp_path, environment=environment)
    yield opened
    opened.close()


@pytest.fixture
def dead(terminal: Terminal) -> str:
    job_id = terminal.do("publish", "charge", "--arg", "order_id=o-1", "--arg", "cents=13")
    terminal.do("worker", "--burst")
    return job_id


def on_terminal(terminal: Terminal, *arguments: str, answer: str = "") -> tuple[int, str]:
    """Run a command on a terminal of its own; return exit code and all that was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "brokerq", *arguments],
        cwd=terminal.folder,
        env=terminal.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # how Linux tells that the other side has closed
        pass
    finally:
        os.close(ours)
        code = process.wait(20)
    return code, shown.decode()


def test_a_person_is_asked_before_what_cannot_be_undone(terminal: Terminal, dead: str) -> None:
    code, shown = on_terminal(terminal, "dlq", "discard", dead, answer="n\n")
    assert code == 4
    assert "Discard dead letters: 1? [y/N]" in shown
    assert "nothing was changed" in shown
    code, shown = on_terminal(terminal, "dlq", "discard", dead, answer="y\n")
    assert code == 0
    assert "discarded 1, skipped 0" in shown
    code, shown = on_terminal(terminal, "queues", "purge", "payments", answer="\x04")
    assert code == 130


def test_tables_are_styled_unless_no_color_is_set(terminal: Terminal, dead: str) -> None:
    code, shown = on_terminal(terminal, "dlq", "ls")
    assert code == 0
    assert "\x1b[1m" in shown
    assert dead in shown
    terminal.environment["NO_COLOR"] = "1"
    code, shown = on_terminal(terminal, "dlq", "ls")
    assert code == 0
    assert "\x1b[" not in shown
    assert dead in shown


def test_a_bar_is_shown_while_letters_are_redriven(terminal: Terminal, dead: str) -> None:
    code, shown = on_terminal(terminal, "dlq", "redrive", dead)
    assert code == 0
    assert "100%" in shown
    assert "redriven 1, skipped 0" in shown


def test_logs_are_for_people_on_a_terminal(terminal: Terminal) -> None:
    terminal.do("publish", "charge", "--arg", "order_id=o-1", "--arg", "cents=5")
    code, shown = on_terminal(terminal, "worker", "--burst")
    assert code == 0
    assert "concurrency  10" in shown
    assert "charging cents=5" in shown
    assert '{"event"' not in shown


def test_two_redrives_at_once_put_each_letter_back_once(terminal: Terminal) -> None:
    program = (
        "import shop\n"
        "for n in range(10):\n"
        "    shop.charge.publish_sync(str(n), 13)\n"
        "shop.bq.close_sync()"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=terminal.folder,
        env=terminal.environment,
        check=True,
    )
    terminal.do("worker", "--burst")
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "brokerq", "dlq", "redrive", "--all", "--rate", "50/s"],
            cwd=terminal.folder,
            env=terminal.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=20)[0].split() for process in both]
    assert sum(int(words[1].rstrip(",")) for words in said) == 10
    assert {process.returncode for process in both} <= {0, 4, 6}
    assert terminal.read("queues", "ls")["queues"][0]["ready"] == 10
