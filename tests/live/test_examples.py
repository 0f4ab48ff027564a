"""Each example runs, and does what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")

    assert all(f'run("{file.name}"' in tested for file in EXAMPLES.glob("*.py"))
