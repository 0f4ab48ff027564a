"""The script for LocalStack creates what `brokerq topology plan --json` asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from brokerq_sqs.broker import SqsBroker
from brokerq_sqs.settings import Settings

from brokerq.broker import QueueSpec
from brokerq.clock import SystemClock
from tests.services import sqs

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)
SCRIPT = Path(__file__).parents[2] / "localstack" / "create_queues.py"
APP = """
from brokerq import BrokerQ

bq = BrokerQ("shop")
bq.queue("mail", priorities=("high", "normal"), lease="1m")
bq.queue("ordered", ordered=True)
"""
RUN = """
import sys
from localstack.runtime.init import InitScriptManager, Stage

[script] = InitScriptManager(sys.argv[1]).run_stage(Stage.READY)
print(script.state)
"""
"""What LocalStack does when it is ready; it does so once, with one fixed folder."""
SPECS = [
    QueueSpec(name="mail", levels=("high", "normal"), lease=timedelta(minutes=1)),
    QueueSpec(name="ordered", ordered=True),
]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sqs.CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("BROKERQ_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_plan(folder: Path, place: Path, prefix: str) -> None:
    """Write the app's plan as the documentation says."""
    (folder / "shop.py").write_text(APP, encoding="utf-8")
    command = [sys.executable, "-m", "brokerq", "topology", "plan", "-A", "shop:bq", "--json"]
    url = f"sqs://{sqs.REGION}?prefix={prefix}"
    plan = run(command, folder, {"BROKERQ_URL": url, "PYTHONPATH": str(folder)})
    place.write_text(plan, encoding="utf-8")


async def is_as_planned(endpoint: str, prefix: str) -> bool:
    settings = Settings(region=sqs.REGION, prefix=prefix, endpoint=endpoint)
    broker = SqsBroker(settings, clock=SystemClock(), random=Random(1))
    await broker.open()
    try:
        return not await broker.drift(SPECS)
    finally:
        await broker.close()


@pytest.mark.parametrize("emulator", [sqs.ministack, sqs.localstack])
async def test_the_script_makes_what_is_planned_and_twice_is_harmless(
    emulator: Callable[[], str], tmp_path: Path
) -> None:
    endpoint, prefix = emulator(), f"t{uuid4().hex[:12]}"
    write_plan(tmp_path, tmp_path / "shop.json", prefix)
    assert not await is_as_planned(endpoint, prefix)
    environment = {"AWS_ENDPOINT_URL": endpoint, "BROKERQ_PLANS": str(tmp_path)}
    for _ in range(2):
        told = run([sys.executable, "-W", "error", str(SCRIPT)], tmp_path, environment)
        assert f"created {prefix}__ordered.fifo\n" in told
        assert await is_as_planned(endpoint, prefix)


async def test_localstack_runs_it_as_what_is_to_run_when_it_is_ready(tmp_path: Path) -> None:
    endpoint, prefix = sqs.localstack(), f"t{uuid4().hex[:12]}"
    folder = tmp_path / "ready.d"
    folder.mkdir()
    shutil.copy(SCRIPT, folder)
    write_plan(tmp_path, folder / "shop.json", prefix)
    environment = {"AWS_ENDPOINT_URL": endpoint, "BROKERQ_PLANS": str(folder)}
    told = run([sqs.localstack_python(), "-c", RUN, str(tmp_path)], tmp_path, environment)
    assert told.endswith("SUCCESSFUL\n")
    assert await is_as_planned(endpoint, prefix)
