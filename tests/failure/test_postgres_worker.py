"""Workers on PostgreSQL: the clock of a host is wrong, and a storm."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from brokerq import State
from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import of
from tests.failure.on_postgres import scene_on
from tests.failure.on_rabbitmq import SLOTS, dismiss, until_all_ended
from tests.failure.processes import Spawner
from tests.failure.roles import ABANDONED
from tests.failure.test_chaos import schedule, wreak
from tests.failure.test_clock import SetClock
from tests.failure.test_rabbitmq_chaos import Storm
from tests.services.postgres_server import Server
from tests.services.proxy import Proxy

pytestmark = pytest.mark.timeout(240)  # a server may take long to start on a busy machine

OFF = timedelta(minutes=5)


class StoreStorm(Storm):
    """One that the records are out in: who is asked to stop may have to leave some unwritten."""

    codes = Storm.codes | {ABANDONED}


@pytest.mark.parametrize("off", [OFF, -OFF], ids=["ahead", "behind"])
async def test_a_host_whose_clock_is_wrong_neither_takes_nor_loses_a_job(
    tmp_path: Path, spawner: Spawner, postgres: Server, *, off: timedelta
) -> None:
    """Leases and retries go by the database's clock, whoever asks for them."""
    async with scene_on(tmp_path, spawner, postgres) as scene:
        clock = SetClock()
        clock.ahead = off
        wrong = build_app(scene.place, Scribe(ledger=scene.ledger), clock=clock)
        stop = asyncio.Event()
        async with wrong:
            for _ in range(10):
                await scene.publish("slow", {"seconds": 1.5})
                await scene.publish("flaky")
            working = asyncio.create_task(wrong.run_worker(concurrency=SLOTS, stop=stop))
            with scene.start("worker", concurrency=SLOTS) as worker:
                handles = [await wrong.publish("quick", {"n": 1000 + n}) for n in range(10)]
                for handle in handles:
                    assert (await handle.wait(timeout="20s")).state == State.SUCCEEDED
                await until_all_ended(scene)
                stop.set()
                await working
                await dismiss(scene, worker)
        begun = of(scene.entries(), "begin")
        assert len({entry.pid for entry in begun}) == 2
        assert len(begun) == 10 + 2 * 10 + 10, "no lease was taken over"


async def test_a_short_storm_over_postgresql_loses_nothing(
    tmp_path: Path, spawner: Spawner, postgres: Server
) -> None:
    with Proxy(postgres.port) as proxy:
        scene = scene_on(tmp_path, spawner, postgres, port=proxy.port)
        await wreak(scene, 1, 4, partial(StoreStorm, proxy=proxy, node=None))


@pytest.mark.chaos
async def test_a_long_storm_over_postgresql_loses_nothing(
    tmp_path: Path, spawner: Spawner, postgres: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, seconds = schedule()
    with capsys.disabled(), Proxy(postgres.port) as proxy:
        print(f"\nBROKERQ_CHAOS_SEED={seed} for {seconds:.0f} s, in {tmp_path}")  # noqa: T201
        scene = scene_on(tmp_path, spawner, postgres, port=proxy.port)
        await wreak(scene, seed, seconds, partial(StoreStorm, proxy=proxy, node=postgres))
