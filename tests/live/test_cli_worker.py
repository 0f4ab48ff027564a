"""One worker process: signals, logs, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.live.cli_process import Terminal, until
from tests.unit.cli_app import SHOP

KEPT = """
import gc
from brokerq import BrokerQ

bq = BrokerQ("kept")

@bq.job()
async def passed_over() -> int:
    return gc.get_freeze_count()
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Generator[Terminal]:
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BROKERQ_")}
    environment |= {"BROKERQ_URL": "sqlite:///jobs.db", "BROKERQ_APP": "shop:bq"}
    opened = Terminal(folder=tmp_path, environment=environment)
    yield opened
    opened.close()


def test_a_burst_does_everything_and_ends(terminal: Terminal) -> None:
    good = terminal.do("publish", "charge", "--arg", "order_id=o-1")
    later = terminal.do("publish", "pid", "--arg", "n=1", "--delay", "300ms")
    done = terminal.run("worker", "shop:bq", "--burst", "-Q", "payments:3,default", "-c", "2")
    assert (done.returncode, done.stdout) == (0, "")
    assert terminal.state_of(good)["state"] == "succeeded"
    assert terminal.state_of(later)["state"] == "succeeded"


def test_waiting_for_a_job_writes_its_result_or_fails_with_it(terminal: Terminal) -> None:
    terminal.start("worker")
    wait = ["publish", "charge", "--wait", "--timeout", "15s"]
    assert json.loads(terminal.do(*wait, "--arg", "order_id=o-1")) == {"receipt": "o-1"}
    dead = terminal.run(*wait, "--arg", "order_id=o-2", "--arg", "cents=-1")
    assert (dead.returncode, dead.stdout) == (1, "")
    assert "amount must be positive" in dead.stderr


def test_the_garbage_collector_passes_over_the_program(terminal: Terminal) -> None:
    (terminal.folder / "kept.py").write_text(KEPT, "utf-8")
    terminal.start("worker", "kept:bq")
    objects = terminal.do("publish", "passed_over", "-A", "kept:bq", "--wait", "--timeout", "15s")
    assert int(objects) > 10_000


def test_the_first_signal_lets_running_jobs_end(terminal: Terminal) -> None:
    job_id = terminal.nap(1)
    worker = terminal.start("worker")
    terminal.until_file("nap.*.began")
    waiting = terminal.do("publish", "pid", "--arg", "n=1", "--delay", "1h")
    worker.send(signal.SIGTERM)
    assert worker.code() == 0
    assert terminal.state_of(job_id)["state"] == "succeeded"
    assert terminal.state_of(waiting)["state"] == "scheduled"


def test_a_second_signal_gives_running_jobs_back(terminal: Terminal) -> None:
    job_id = terminal.do("publish", "ask", "--arg", "name=a")
    worker = terminal.start("worker", "--grace", "10m")
    terminal.until_file("a.*.began")
    worker.send(signal.SIGINT)
    worker.until_logged("stopping: SIGINT")
    assert terminal.state_of(job_id)["state"] == "running"
    worker.send(signal.SIGINT)
    assert worker.code() == 130
    job = terminal.state_of(job_id)
    assert (job["state"], job["attempts"], job["crashes"]) == ("queued", 0, 0)


def test_a_third_signal_ends_at_once_even_with_a_stuck_thread(terminal: Terminal) -> None:
    terminal.nap(600)
    worker = terminal.start("worker")
    terminal.until_file("nap.*.began")
    for times in ("stopping: SIGTERM", "SIGTERM again"):
        worker.send(signal.SIGTERM)
        worker.until_logged(times)
    worker.send(signal.SIGTERM)
    assert worker.code() == 143


def test_abandoned_jobs_make_exit_code_1_and_hold_nobody_up(terminal: Terminal) -> None:
    job_id = terminal.nap(600)
    worker = terminal.start("worker", "--grace", "100ms")
    terminal.until_file("nap.*.began")
    worker.send(signal.SIGTERM)
    assert worker.code() == 1
    assert "1 jobs were abandoned" in worker.logged()
    assert terminal.state_of(job_id)["state"] == "running"


def test_quit_shows_threads_and_tasks_and_goes_on(terminal: Terminal) -> None:
    terminal.nap(1)
    terminal.do("publish", "ask", "--arg", "name=a")
    worker = terminal.start("worker")
    terminal.until_file("nap.*.began")
    terminal.until_file("a.*.began")
    worker.send(signal.SIGQUIT)
    worker.until_logged("in nap")
    worker.until_logged("in ask")
    worker.until_logged("in beat_for_ever")
    terminal.until_file("nap.*.done")
    assert worker.process.poll() is None


def test_logs_are_json_where_nobody_watches(terminal: Terminal) -> None:
    terminal.do("publish", "charge", "--arg", "order_id=o-1", "--arg", "cents=5")
    done = terminal.run("worker", "--burst", "-Q", "payments:3,default")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    [start] = [line for line in lines if line["event"] == "worker starts"]
    assert start["queues"] == {"payments": 3, "default": 1}
    assert (start["app"], start["concurrency"]) == ("shop:bq", 10)
    assert str(terminal.folder / "jobs.db") in start["where"]
    [own] = [line for line in lines if line["event"] == "charging cents=5"]
    assert (own["logger"], own["job"], own["level"]) == ("brokerq.job", "charge", "info")


def test_logs_are_lines_where_they_are_asked_for(terminal: Terminal) -> None:
    terminal.environment["BROKERQ_LOG_LEVLE"] = "debug"
    done = terminal.run("worker", "--burst", "--log-format=human", "--strict", "-Q", "default")
    assert "  app          shop:bq\n" in done.stderr
    assert "  queues       default:1 (in this order)\n" in done.stderr
    assert "did you mean BROKERQ_LOG_LEVEL?" in done.stderr
    assert "\x1b[" not in done.stderr


def test_a_handlers_own_logger_is_seen_too(terminal: Terminal) -> None:
    (terminal.folder / "shop.py").write_text(
        SHOP + "\n@bq.job()\ndef tell() -> None:\n"
        '    import logging\n    logging.getLogger("mine").info("hello")\n'
    )
    terminal.do("publish", "tell")
    done = terminal.run("worker", "--burst")
    assert [line["logger"] for line in map(json.loads, done.stderr.splitlines())].count("mine") == 1


def test_a_worker_without_its_app_or_queue_or_broker_says_so(terminal: Terminal) -> None:
    for arguments, code, sentence in (
        (["worker", "shopp:bq"], 2, "there is no module 'shopp'"),
        (["worker", "-Q", "payment"], 3, "did you mean 'payments'?"),
        (["worker", "-Q", "payments:0"], 2, "a weight of at least 1"),
        (["worker", "--max-memory", "lots"], 2, "write 512MB"),
        (["worker", "--grace", "-1s"], 2, "must not be negative"),
        (["worker", "--max-memory", "1MB"], 2, "--max-memory must be well above that"),
    ):
        done = terminal.run(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    terminal.environment["BROKERQ_URL"] = "sqlite:////proc/none/jobs.db"
    done = terminal.run("worker")
    assert done.returncode == 5
    assert "/proc/none" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_command_that_waits_can_be_interrupted(
    terminal: Terminal, number: signal.Signals, code: int
) -> None:
    waiting = terminal.start("publish", "pid", "--arg", "n=1", "--wait")
    until(waiting.logged, what="the id is shown")
    waiting.send(number)
    assert waiting.code() == code
    assert "Traceback" not in waiting.logged()
    assert len(terminal.read("jobs", "ls", "--state=queued")["jobs"]) == 1


def test_a_reader_that_has_seen_enough_is_no_error_message(terminal: Terminal) -> None:
    terminal.do("publish", "pid", "--arg", "n=1")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "brokerq", "jobs", "ls", "--jsonl"],
        cwd=terminal.folder,
        env=terminal.environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
