"""How long a claim takes: `python -m tests.bench.postgres_claims claims URL WAITING SNAPSHOT`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack

import psycopg
from brokerq_postgres import connect
from brokerq_postgres.options import Options, read_options

from brokerq.broker import Ack, Broker, Lane, Outgoing, QueueSpec
from brokerq.clock import SystemClock
from brokerq.message import Message
from brokerq.url import Url
from tests.bench.meter import Figures

LANE = Lane(queue="default")
BATCH = 100
ROUNDS = 400
WAITING = """
INSERT INTO {}.messages (lane, job_id, headers, body)
SELECT lane, gen_random_uuid()::text, headers, body
FROM (SELECT lane, headers, body FROM {}.messages LIMIT 1) AS one, generate_series(1, %s)
"""


async def claims(url: str, waiting: int, snapshot: int) -> Figures:
    """Claim and delete batches while `waiting` more rows wait; milliseconds for a claim.

    Args:
        url: Of an own schema.
        waiting: How many rows wait behind those that are claimed.
        snapshot: Whether (1) a transaction elsewhere keeps its view of the beginning.
    """
    options = read_options(Url.parse(url))
    broker = connect(options, prefix="bench", clock=SystemClock()).broker
    assert broker is not None
    async with AsyncExitStack() as stack:
        await broker.open()
        stack.push_async_callback(broker.close)
        await broker.declare([QueueSpec(name=LANE.queue)])
        for _ in range(ROUNDS * BATCH // 1000):
            await broker.publish([_outgoing(number) for number in range(1000)])
        _wait_behind(options, waiting)
        if snapshot:
            elsewhere = stack.enter_context(psycopg.connect(options.conninfo))
            elsewhere.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            elsewhere.execute("SELECT 1")
        took = await _take(broker)
    took.sort()
    middle = len(took) // 2
    return {"p50_ms": took[middle] * 1000, "p90_ms": took[int(len(took) * 0.9)] * 1000}


def _outgoing(number: int) -> Outgoing:
    job_id = f"{number:036}"
    headers = {"bq-v": "1", "bq-id": job_id, "bq-job": "noop"}
    message = Message(headers=headers, body=b'{"number":1}')
    return Outgoing(lane=LANE, message=message, id=job_id)


def _wait_behind(options: Options, waiting: int) -> None:
    """Put rows into the table, as quickly as can be."""
    statement = WAITING.replace("{}", options.schema)
    with psycopg.connect(options.conninfo, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute(statement.encode(), (waiting,))
        connection.execute(f"VACUUM ANALYZE {options.schema}.messages".encode())
        connection.execute("CHECKPOINT")


async def _take(broker: Broker) -> list[float]:
    took: list[float] = []
    async with broker.consume(LANE, prefetch=BATCH) as consumer:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            deliveries = await consumer.receive(BATCH)
            took.append(time.perf_counter() - begin)
            await consumer.settle([(delivery, Ack()) for delivery in deliveries])
    return took


if __name__ == "__main__":
    _, url, *numbers = sys.argv[1:]
    print(json.dumps(asyncio.run(claims(url, *map(int, numbers)))), flush=True)
