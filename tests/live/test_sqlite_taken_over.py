"""What another consumer has taken over in the file is not removed, whatever this one believes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from brokerq_sqlite import connect
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.session import Options

from brokerq.broker import Ack, Lane, Outgoing, QueueSpec
from brokerq.clock import SystemClock
from brokerq.message import Message

LANE = Lane(queue="jobs")


async def test_of_messages_that_are_removed_together_one_was_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    options = Options(path=path, lock_timeout=5.0, boot=boot_id)
    broker = connect(options, prefix="shop", clock=SystemClock()).broker
    assert broker is not None
    await broker.open()
    await broker.declare([QueueSpec(name=LANE.queue)])
    message = Message(headers={}, body=b"{}")
    await broker.publish([Outgoing(lane=LANE, message=message, id=name) for name in "ab"])
    async with broker.consume(LANE, prefetch=2) as consumer:
        first, second = await consumer.receive(2)
        with closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE brokerq_messages SET holder = 7 WHERE job_id = ?", (second.id,))
            db.commit()
        assert list(await consumer.settle([(first, Ack()), (second, Ack())])) == [True, False]
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT job_id, holder FROM brokerq_messages").fetchall()
        assert rows == [(second.id, 7)]
    await broker.close()
