"""Several worker processes under a supervisor: killed, spent, orphaned."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from brokerq.cli.supervisor import Backoff, Next, drained, what_next
from tests.live.cli_process import Running, Terminal, is_alive, until
from tests.unit.cli_app import SHOP


@pytest.fixture
def terminal(tmp_path: Path) -> Generator[Terminal]:
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BROKERQ_")}
    environment |= {"BROKERQ_URL": "sqlite:///jobs.db", "BROKERQ_APP": "shop:bq"}
    opened = Terminal(folder=tmp_path, environment=environment)
    yield opened
    opened.close()


def started(terminal: Terminal, *arguments: object, processes: int) -> tuple[Running, list[int]]:
    """Start a supervisor; return it and its children once they work."""
    supervisor = terminal.start("worker", "--processes", processes, *arguments)
    supervisor.until_logged("worker starts", times=processes)
    children = supervisor.children()
    assert len(children) == processes
    return supervisor, children


def test_all_processes_work_and_one_signal_stops_them(terminal: Terminal) -> None:
    supervisor, children = started(terminal, "-c", "1", processes=2)
    held = [terminal.do("publish", "hold", "--arg", f"name={name}") for name in ("a", "b")]
    terminal.until_file("a.*.began")
    terminal.until_file("b.*.began")
    began = [path.name.split(".")[1] for path in terminal.folder.glob("[ab].*.began")]
    assert sorted(map(int, began)) == sorted(children)
    supervisor.send(signal.SIGTERM)
    supervisor.until_logged("stopping: SIGTERM", times=2)
    (terminal.folder / "go").touch()
    assert supervisor.code() == 0
    assert [terminal.state_of(each)["state"] for each in held] == ["succeeded"] * 2
    assert not any(map(is_alive, children))


def test_a_burst_ends_when_all_processes_have(terminal: Terminal) -> None:
    ids = terminal.pid_jobs(3)
    done = terminal.run("worker", "--burst", "--processes", 2)
    assert done.returncode == 0
    succeeded = terminal.read("jobs", "ls", "--state=succeeded")["jobs"]
    assert {job["id"] for job in succeeded} == set(ids)


def test_a_killed_process_is_replaced(terminal: Terminal) -> None:
    supervisor, [first] = started(terminal, processes=1)
    os.kill(first, signal.SIGKILL)
    supervisor.until_logged("worker starts", times=2)
    assert "ended by SIGKILL; another in 0.5 s" in supervisor.logged()
    terminal.do("publish", "pid", "--arg", "n=1")
    terminal.until_file("pid.1.*")
    assert terminal.pids("pid.1.*") == set(supervisor.children()) != {first}
    supervisor.send(signal.SIGTERM)
    assert supervisor.code() == 0


def test_orphans_finish_their_jobs_and_end(terminal: Terminal) -> None:
    supervisor, children = started(terminal, processes=2)
    job_id = terminal.nap(1)
    terminal.until_file("nap.*.began")
    supervisor.send(signal.SIGKILL)
    until(lambda: not any(map(is_alive, children)), what="the orphans have ended")
    assert "the supervisor has gone" in supervisor.logged()
    assert terminal.state_of(job_id)["state"] == "succeeded"


def test_a_process_is_replaced_after_its_last_job(terminal: Terminal) -> None:
    terminal.pid_jobs(7)
    done = terminal.run("worker", "--burst", "--processes", 1, "--max-jobs", 3)
    assert done.returncode == 0
    assert "is spent and started anew" in done.stderr
    by_process = [len(list(terminal.folder.glob(f"pid.*.{p}"))) for p in terminal.pids("pid.*")]
    assert sorted(by_process) == [1, 3, 3]


def test_a_process_that_grew_too_large_is_replaced(terminal: Terminal) -> None:
    supervisor, [first] = started(terminal, "--max-memory", "150MB", processes=1)
    terminal.do("publish", "hoard", "--arg", f"size={200_000_000}")
    supervisor.until_logged("over --max-memory")
    supervisor.until_logged("worker starts", times=2)
    assert supervisor.children() != [first]
    supervisor.send(signal.SIGTERM)
    assert supervisor.code() == 0


def test_a_single_process_that_is_spent_ends_well(terminal: Terminal) -> None:
    terminal.pid_jobs(2)
    assert terminal.run("worker", "--max-jobs", 1).returncode == 0
    assert len(terminal.read("jobs", "ls", "--state=queued")["jobs"]) == 1


def test_an_app_that_cannot_be_loaded_is_given_up_at_once(terminal: Terminal) -> None:
    done = terminal.run("worker", "shopp:bq", "--processes", 2)
    assert done.returncode == 2
    assert done.stderr.count("there is no module 'shopp'") in {1, 2}
    assert "another in" not in done.stderr


def test_a_second_signal_interrupts_in_all_processes(terminal: Terminal) -> None:
    supervisor, children = started(terminal, "--grace", "10m", processes=2)
    job_id = terminal.do("publish", "ask", "--arg", "name=a")
    terminal.until_file("a.*.began")
    supervisor.send(signal.SIGTERM)
    supervisor.until_logged("stopping: SIGTERM", times=2)
    supervisor.send(signal.SIGTERM)
    assert supervisor.code() == 143
    assert not any(map(is_alive, children))
    assert terminal.state_of(job_id)["state"] == "queued"


def test_a_job_that_is_abandoned_is_told_by_the_exit_code(terminal: Terminal) -> None:
    supervisor, _ = started(terminal, "--grace", "100ms", processes=1)
    terminal.nap(600)
    terminal.until_file("nap.*.began")
    supervisor.send(signal.SIGTERM)
    assert supervisor.code() == 1


@pytest.mark.parametrize(
    ("code", "stopping", "follows"),
    [
        (0, False, Next.END),
        (75, False, Next.RECYCLE),
        (75, True, Next.END),
        (1, False, Next.RESTART),
        (5, False, Next.RESTART),
        (-signal.SIGKILL, False, Next.RESTART),
        (-signal.SIGKILL, True, Next.END),
        (2, False, Next.GIVE_UP),
        (3, False, Next.GIVE_UP),
    ],
)
def test_the_exit_code_decides_what_follows(code: int, *, stopping: bool, follows: Next) -> None:
    assert what_next(code, stopping=stopping) is follows


def test_the_wait_doubles_up_to_its_limit() -> None:
    backoff = Backoff()
    assert [backoff.wait(n) for n in (1, 2, 3, 6, 7, 8, 10_000)] == [0.5, 1, 2, 16, 30, 30, 30]


def test_a_process_that_was_stopped_before_it_worked_left_nothing() -> None:
    assert all(map(drained, (0, 75, -signal.SIGTERM)))
    assert not any(map(drained, (1, -signal.SIGKILL)))
