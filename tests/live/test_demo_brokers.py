"""The demo on each broker that needs a server: the same end as on SQLite; RabbitMQ is restarted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from brokerq.demo.faults import Fault, plan
from tests.live.test_demo import table
from tests.services import postgres, sqs
from tests.services.rabbitmq import own_node

ROWS = 150
EARLY = """
from brokerq import BrokerQ

bq = BrokerQ("early")


@bq.job()
async def work() -> None: ...
"""


@contextmanager
def demo(folder: Path, variables: Mapping[str, str]) -> Generator[subprocess.Popen[str]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BROKERQ_")}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "brokerq", "demo", "--rows", str(ROWS)],
        env={**kept, "TMPDIR": str(folder), **variables},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def check(process: subprocess.Popen[str], shown: str) -> None:
    """Judge the end of a demo as far as it does not depend on timing."""
    assert process.stdout is not None
    shown += process.stdout.read()
    assert process.wait() == 0, shown
    last = table(shown, "After the repair")
    invalid = sum(fault is Fault.INVALID for fault in plan(ROWS, 1).values())
    assert (last["rows"], last["lost"]) == (ROWS, 0), shown
    assert last["succeeded"] == last["effects"] == ROWS - invalid, shown
    assert last["dead: rejected"] == invalid, shown


@pytest.mark.timeout(240)
def test_the_demo_on_rabbitmq_that_is_restarted_in_the_middle(tmp_path: Path) -> None:
    with own_node() as node:
        store_url = f"sqlite:///{tmp_path}/records.db"
        with demo(tmp_path, {"BROKERQ_URL": node.url, "BROKERQ_STORE_URL": store_url}) as process:
            assert process.stdout is not None
            shown = ""
            for line in process.stdout:
                shown += line
                if "first run: " in line:
                    break
            node.restart()
            check(process, shown)


@pytest.mark.timeout(240)
def test_a_worker_that_is_started_before_its_broker_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(EARLY)
    node = own_node()
    command = [sys.executable, "-m", "brokerq"]
    variables = {
        **os.environ,
        "BROKERQ_URL": node.url,
        "BROKERQ_STORE_URL": f"sqlite:///{tmp_path}/records.db",
    }
    with subprocess.Popen(
        [*command, "worker", "early:bq", "--max-jobs", "1"],
        cwd=tmp_path,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        try:
            assert worker.stderr is not None
            assert any("cannot start yet" in line for line in worker.stderr)
            with node:
                publish = [*command, "publish", "-A", "early:bq", "work", "--wait"]
                subprocess.run(publish, cwd=tmp_path, env=variables, check=True, timeout=60)
                assert worker.wait() == 0
        finally:
            worker.kill()


@pytest.mark.timeout(240)
def test_the_demo_on_postgresql(tmp_path: Path) -> None:
    with postgres.own_schema() as url, demo(tmp_path, {"BROKERQ_URL": url}) as process:
        check(process, "")


@pytest.mark.timeout(240)
def test_the_demo_on_sqs(tmp_path: Path) -> None:
    variables = {
        **sqs.CREDENTIALS,
        "BROKERQ_URL": f"sqs://us-east-1?endpoint={sqs.ministack()}&prefix=demo-{os.getpid()}",
        "BROKERQ_STORE_URL": f"sqlite:///{tmp_path}/records.db",
    }
    with demo(tmp_path, variables) as process:
        check(process, "")
