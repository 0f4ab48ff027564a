"""Several processes on one SQLite file: real ones, started, killed and forked."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from brokerq_sqlite import SqliteBroker, connect
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.session import Options

from brokerq.broker import Ack, Delivery, Lane, Outgoing, QueueSpec
from brokerq.clock import SystemClock
from brokerq.errors import ConnectionLostError
from brokerq.message import Message

LANE = Lane(queue="jobs")
LEASE = timedelta(seconds=1)
PATIENCE = 20.0
CLOCK = SystemClock()


def make(path: Path, *, boot: str | None = None) -> SqliteBroker:
    options = Options(path=path, lock_timeout=10.0, boot=boot_id if boot is None else lambda: boot)
    broker = connect(options, prefix="shop", clock=CLOCK).broker
    assert isinstance(broker, SqliteBroker)
    return broker


def outgoing(number: int) -> Outgoing:
    message = Message(headers={"bq-id": f"job-{number}"}, body=b"%d" % number)
    return Outgoing(lane=LANE, message=message, id=f"job-{number}")


async def receive_one(broker: SqliteBroker) -> Delivery:
    async with asyncio.timeout(PATIENCE), broker.consume(LANE, prefetch=1) as consumer:
        (delivery,) = await consumer.receive(1)
        await consumer.settle([(delivery, Ack())])
        return delivery


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def broker(path: Path) -> AsyncIterator[SqliteBroker]:
    broker = make(path)
    await broker.open()
    await broker.declare([QueueSpec(name=LANE.queue, lease=LEASE)])
    yield broker
    await broker.close()


class Program:
    """This file, run by another Python: says on its output, line by line, what it does."""

    def __init__(self, what: str, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, what, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def line(self) -> dict[str, float]:
        output = self.process.stdout
        assert output is not None
        async with asyncio.timeout(PATIENCE):
            line = await asyncio.to_thread(output.readline)
        assert line, "the program has ended"
        read: dict[str, float] = json.loads(line)
        return read

    async def rest(self) -> list[dict[str, float]]:
        """Wait for its end, which must be a good one; return the lines that were left."""
        out, _ = await asyncio.to_thread(self.process.communicate, timeout=PATIENCE)
        assert self.process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]

    def go(self) -> None:
        """Let it begin."""
        begin = self.process.stdin
        assert begin is not None
        begin.write("go\n")
        begin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


async def test_two_processes_share_the_work_and_run_nothing_twice(
    broker: SqliteBroker, path: Path
) -> None:
    number = 2_000
    drains = [Program("drain", path) for _ in range(2)]
    for program in drains:
        await program.line()
    for start in range(0, number, 200):
        await broker.publish([outgoing(n) for n in range(start, start + 200)])
    parts = [await program.rest() for program in drains]
    got = Counter(line["job"] for part in parts for line in part if "job" in line)
    assert got == Counter(range(number))
    assert all(len(part) > number / 10 for part in parts), [len(part) for part in parts]
    (stats,) = await broker.stats([LANE.queue])
    assert (stats.ready, stats.in_flight, stats.delayed) == (0, 0, 0)


async def test_what_a_killed_process_held_is_delivered_when_its_lease_ends(
    broker: SqliteBroker, path: Path
) -> None:
    await broker.publish([outgoing(1)])
    holder = Program("hold", path)
    held = await holder.line()
    assert held["job"] == 1
    holder.kill()
    delivery = await receive_one(broker)
    assert delivery.count == 2
    now, lease = CLOCK.monotonic(), LEASE.total_seconds()
    assert now - held["before"] >= lease
    assert now - held["at"] <= lease + 1.5


async def test_a_message_wakes_a_process_that_waits_within_milliseconds(
    broker: SqliteBroker, path: Path
) -> None:
    """Half of them within 50 ms, a generous bound: by looking alone it would be 500 ms."""
    waiter = Program("report", path)
    await waiter.line()
    delays: list[float] = []
    for number in range(11):
        await asyncio.sleep(0.05)  # long enough for it to wait again
        published_at = CLOCK.monotonic()
        await broker.publish([outgoing(number)])
        seen = await waiter.line()
        assert seen["job"] == number
        delays.append(seen["at"] - published_at)
    await waiter.rest()
    assert sorted(delays)[5] < 0.05, delays


async def test_a_process_that_waits_uses_next_to_no_processor_time(
    broker: SqliteBroker, path: Path
) -> None:
    waiter = Program("idle", path)
    (used,) = await waiter.rest()
    assert used["cpu"] < 0.02 * used["seconds"], used


async def test_a_fifo_that_a_killed_process_left_is_removed_by_the_next_publisher(
    broker: SqliteBroker, path: Path
) -> None:
    waiter = Program("report", path)
    await waiter.line()
    directory = path.with_name("jobs.db-wake")
    assert len(list(directory.iterdir())) == 1
    waiter.kill()
    await broker.publish([outgoing(1)])
    await receive_one(broker)  # announcing comes after the commit, before the answer
    assert list(directory.iterdir()) == []


async def test_a_new_boot_ends_every_lease(broker: SqliteBroker, path: Path) -> None:
    await broker.publish([outgoing(1)])
    async with broker.consume(LANE, prefetch=1) as before:
        (held,) = await before.receive(1)
        assert held.count == 1
        rebooted = make(path, boot="another boot")
        await rebooted.open()
        try:
            assert (await receive_one(rebooted)).id == held.id
        finally:
            await rebooted.close()


async def test_the_same_boot_ends_no_lease(broker: SqliteBroker, path: Path) -> None:
    await broker.publish([outgoing(1)])
    async with broker.consume(LANE, prefetch=1) as owner:
        (held,) = await owner.receive(1)
        again = make(path)
        await again.open()
        (stats,) = await again.stats([LANE.queue])
        await again.close()
        assert (stats.ready, stats.in_flight) == (0, 1)
        assert await owner.settle([(held, Ack())]) == [True]


def test_a_forked_child_is_told_to_open_the_file_itself_and_then_can(path: Path) -> None:
    broker = make(path)
    with asyncio.Runner() as runner:
        runner.run(broker.open())
        runner.run(broker.declare([QueueSpec(name=LANE.queue)]))
        with warnings.catch_warnings():
            # Python 3.12 and newer warn of forking with threads; that is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(_in_child(broker))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        runner.run(broker.publish([outgoing(2)]))
        received = [runner.run(receive_one(broker)).id for _ in range(2)]
        assert received == ["job-1", "job-2"]
        runner.run(broker.close())


def _in_child(broker: SqliteBroker) -> int:
    """Use a broker of the parent: refused, then open it. Return what the child ends with."""

    async def use() -> None:
        with pytest.raises(ConnectionLostError, match="fork"):
            await broker.publish([outgoing(1)])
        await broker.open()
        await broker.publish([outgoing(1)])
        await broker.close()

    try:
        asyncio.run(use())
    except BaseException:  # noqa: BLE001 - nothing may leave the child but its status
        traceback.print_exc()
        return 1
    return 0


async def test_nobody_starves_when_four_processes_write_all_the_time(
    broker: SqliteBroker, path: Path
) -> None:
    writers = [Program("write", path) for _ in range(4)]
    for writer in writers:
        await writer.line()
    for writer in writers:
        writer.go()
    counts = [(await writer.rest())[0] for writer in writers]
    total = sum(count["written"] for count in counts)
    assert min(count["written"] for count in counts) >= total / 4 / 2, counts
    (stats,) = await broker.stats([LANE.queue])
    assert stats.ready == total


def say(**values: float) -> None:
    print(json.dumps(values), flush=True)  # noqa: T201 - this is the program's output


async def run(what: str, path: Path) -> None:
    broker = make(path)
    await broker.open()
    await PROGRAMS[what](broker, path)
    await broker.close()


async def drain(broker: SqliteBroker, _: Path) -> None:
    async with broker.consume(LANE, prefetch=20) as consumer:
        say(ready=1)
        while True:
            try:
                async with asyncio.timeout(5):  # the publisher may be slow to begin
                    deliveries = await consumer.receive(20)
            except TimeoutError:
                return
            done = await consumer.settle([(d, Ack()) for d in deliveries])
            for delivery, ok in zip(deliveries, done, strict=True):
                if ok:
                    say(job=int(delivery.message.body))


async def hold(broker: SqliteBroker, _: Path) -> None:
    async with broker.consume(LANE, prefetch=1) as consumer:
        before = CLOCK.monotonic()
        (delivery,) = await consumer.receive(1)
        say(job=int(delivery.message.body), before=before, at=CLOCK.monotonic())
        await asyncio.Event().wait()


async def report(broker: SqliteBroker, _: Path) -> None:
    async with broker.consume(LANE, prefetch=1) as consumer:
        say(ready=1)
        number = -1
        while number < 10:
            (delivery,) = await consumer.receive(1)
            number = int(delivery.message.body)
            say(job=number, at=CLOCK.monotonic())
            await consumer.settle([(delivery, Ack())])


async def idle(broker: SqliteBroker, _: Path) -> None:
    async with broker.consume(LANE, prefetch=1) as consumer:
        waiting = asyncio.ensure_future(consumer.receive(1))
        began, used = time.monotonic(), time.process_time()
        await asyncio.wait([waiting], timeout=4)
        say(cpu=time.process_time() - used, seconds=time.monotonic() - began)
        waiting.cancel()


async def write(broker: SqliteBroker, _: Path) -> None:
    say(ready=1)
    await asyncio.to_thread(sys.stdin.readline)
    written = 0
    times = [time.monotonic()]
    while times[-1] < times[0] + 2:
        await broker.publish([outgoing(written)])
        written += 1
        times.append(time.monotonic())
    say(written=written, longest=max(b - a for a, b in pairwise(times)))


PROGRAMS = {"drain": drain, "hold": hold, "report": report, "idle": idle, "write": write}

if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2])))
