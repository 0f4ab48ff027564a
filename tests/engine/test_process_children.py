"""Where handlers with a process of their own are found, and what outlives what."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from brokerq import BrokerQ
from brokerq.engine.crossing import HandlerError, pack_error, unpack_error
from brokerq.errors import ConfigurationError
from tests.engine import process_jobs
from tests.engine.conftest import eventually
from tests.engine.pids import are_gone, hanging

ROOT = Path(__file__).parents[2]


class Programs:
    def method(self) -> None: ...


def test_a_handler_that_a_child_could_not_find_is_refused() -> None:
    bq = BrokerQ("refusing", url="memory://")

    def local() -> None: ...

    for handler in (local, Programs().method):
        with pytest.raises(ConfigurationError, match="move it to the top level of a module"):
            bq.job(run_in="process")(handler)
    with pytest.raises(ConfigurationError, match="move it to the top level of a module"):
        bq.job(run_in="process", name="it")(lambda: None)


def _run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_handler_of_a_program_without_a_file_is_refused(tmp_path: Path) -> None:
    done = _run("-c", SCRIPT, folder=tmp_path)
    assert "ConfigurationError" in done.stderr
    assert "move it to the top level of a module" in done.stderr


SCRIPT = """
import asyncio
from brokerq import BrokerQ, RetryPolicy

bq = BrokerQ("script", url="memory://")

class OwnError(Exception):
    pass

@bq.job(run_in="process", retry=RetryPolicy(max_attempts=1, on={OwnError: "drop"}))
def work() -> None:
    raise OwnError("mine")

async def main() -> None:
    async with bq:
        handle = await work.publish()
        await bq.run_worker(burst=True)
        view = await handle.status()
        print(view.state, view.note)
        if view.state == "dead":
            print(view.failure)
"""


def test_a_handler_in_the_main_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT + 'if __name__ == "__main__":\n    asyncio.run(main())\n', "utf-8")
    for arguments in (["script.py"], ["-m", "script"]):
        done = _run(*arguments, folder=tmp_path)
        assert done.stdout == "skipped mine\n", done.stderr


def test_a_main_file_without_a_guard_is_not_run_twice(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT + "asyncio.run(main())\n", encoding="utf-8")
    done = _run("script.py", folder=tmp_path)
    assert "put what starts the worker under" in done.stdout, done.stderr
    assert done.stdout.startswith("dead attempt 1 failed")


async def test_children_do_not_outlive_a_worker_that_is_killed(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from brokerq import BrokerQ
from tests.engine import process_jobs

bq = BrokerQ("killed", url="memory://")
hang = bq.job(run_in="process")(process_jobs.hang)

async def main():
    await hang.publish(sys.argv[1])
    await bq.run_worker()

asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), cwd=ROOT
    )
    try:
        await eventually(lambda: bool(hanging(tmp_path)))
        assert not are_gone(hanging(tmp_path)[:1])
    finally:
        worker.kill()
        await worker.wait()
    await eventually(lambda: are_gone(hanging(tmp_path)))


def test_an_error_keeps_what_can_travel() -> None:
    error = process_jobs.OddlyMadeError(7, "why")
    error.add_note("noted")
    back = unpack_error(pack_error(error))
    assert isinstance(back, process_jobs.OddlyMadeError)
    assert (str(back), back.code, back.__notes__) == ("7: why", 7, ["noted"])
    assert not hasattr(back, "lock")


class PickyError(Exception):
    def __str__(self) -> str:
        return json.dumps(self.args[0]["x"])


def test_an_error_that_would_say_something_else_is_replaced() -> None:
    back = unpack_error(pack_error(PickyError({"x": 1, "y": asyncio.Lock})))
    assert isinstance(back, PickyError)
    lost = unpack_error(pack_error(PickyError({"x": 1, "y": (n for n in range(2))})))
    assert isinstance(lost, HandlerError)
    assert str(lost) == "PickyError: 1"
