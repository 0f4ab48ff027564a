"""Each example runs, and does what it says."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from brokerq_postgres.options import read_options
from psycopg import sql

from brokerq.url import Url
from tests.services.postgres import own_schema, standing_url, with_parameters

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "BROKERQ_URL": f"sqlite:///{tmp_path / 'queue.db'}"}


def run(name: str, *arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        check=False,
        cwd=EXAMPLES,
        env=environment,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_quickstart_retries_replays_and_rejects(environment: dict[str, str]) -> None:
    shown = run("quickstart.py", environment=environment)

    assert "the second publish was a duplicate: True" in shown
    assert "good: receipt for good-" in shown
    assert "bad: dead - the amount must be positive" in shown


def test_the_quickstart_runs_a_second_time(environment: dict[str, str]) -> None:
    run("quickstart.py", environment=environment)

    assert "good: receipt for good-" in run("quickstart.py", environment=environment)


def test_a_cron_host_works_off_what_was_published_and_then_has_nothing_to_do(
    environment: dict[str, str],
) -> None:
    run("cron_host.py", "publish", "ada@example.org", "bob@example.org", environment=environment)
    run("cron_host.py", "publish", "ada@example.org", environment=environment)

    first = run("cron_host.py", environment=environment)
    second = run("cron_host.py", environment=environment)

    assert sorted(line for line in first.splitlines() if line.startswith("welcome")) == [
        "welcome, ada@example.org",
        "welcome, bob@example.org",
    ]
    assert "done: {'succeeded': 2}" in first
    assert second == "done: nothing to do\n"


def test_middleware_and_hooks_see_every_job(environment: dict[str, str]) -> None:
    shown = run("middleware_and_hooks.py", environment=environment)

    assert "broken failed: no figures for 2026-11; again in 0:00:00.050000" in shown
    assert "broken is dead: exhausted, after 2 attempts" in shown
    assert "monthly: 7" in shown
    assert "measured: broken, monthly" in shown


OUTBOX = """\
refused: that is more than your limit
before the worker: None
the worker: {'succeeded': 1}
after the worker: 42.00 paid
"""


def test_a_web_shop_s_orders_and_jobs_are_one_commit(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(2):
        shown = run(
            "fastapi_outbox.py",
            environment={**environment, "DATABASE_URL": f"sqlite:///{tmp_path}/queue.db"},
        )
        assert shown == OUTBOX


@pytest.mark.parametrize("broker", ["the same database", "another one"])
def test_a_web_shop_on_postgresql(environment: dict[str, str], broker: str) -> None:
    with own_schema() as url:
        with psycopg.connect(standing_url(), autocommit=True) as connection:
            schema = read_options(Url.parse(url)).schema
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        mine = {
            "DATABASE_URL": with_parameters(standing_url(), options=f"-csearch_path={schema}"),
            "BROKERQ_STORE_URL": url,
        }
        if broker == "the same database":
            mine["BROKERQ_URL"] = url
        assert run("fastapi_outbox.py", environment={**environment, **mine}) == OUTBOX


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")

    assert all(f'"{file.name}"' in tested for file in EXAMPLES.glob("*.py"))
