"""Files of earlier versions are brought to this one's schema, and nothing in them is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from brokerq_sqlite import SqliteBroker, connect
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.session import APPLICATION_ID, Options, migrations

from brokerq.broker import Lane, Outgoing, QueueSpec
from brokerq.clock import SystemClock
from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.records import Held, Reserved, State
from brokerq.store import NewJob
from brokerq.wire import Head, write_headers

LANE = Lane(queue="jobs")
HOUR = timedelta(hours=1)


def job(number: int, key: str) -> tuple[NewJob, Outgoing]:
    head = Head(id=f"job-{number}", job="charge", first_at=datetime.now(UTC), key=key)
    message = Message(headers=write_headers(head), body=b"{}")
    new = NewJob(head=head, message=message, queue=LANE.queue, level=LANE.level)
    return new, Outgoing(lane=LANE, message=message, id=head.id)


@pytest.mark.parametrize("version", range(1, len(migrations())))
async def test_a_file_of_an_earlier_version_is_migrated(tmp_path: Path, version: int) -> None:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as db:
        for script in migrations()[:version]:
            db.executescript(script)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version}")
        # As it was in version 1, and is still.
        db.execute("INSERT INTO apps VALUES (1, 'shop')")
        db.execute("INSERT INTO queues VALUES (1, 1, 'jobs', 0, 30000000)")
        db.execute("INSERT INTO lanes VALUES (1, 1, 'normal', 0)")
        db.execute("INSERT INTO messages (lane, job_id, body) VALUES (1, 'job-1', '{}')")
        db.execute("INSERT INTO keys VALUES (1, 'charge:old', 'job-1', NULL, NULL)")
        db.execute(
            "INSERT INTO jobs (app, id, state, first_at, epoch, claimed, attempts, crashes, fence,"
            " lease_until, redrives, cancelling, job, queue, level, history, key, user_key) VALUES"
            " (1, 'job-1', 'queued', 0, 0, 0, 0, 0, 0, 0, 0, 0, 'charge', 'jobs', 'normal', '',"
            " 'charge:old', 'old')"
        )
        db.commit()
    options = Options(path=path, lock_timeout=1.0, boot=boot_id)
    backend = connect(options, prefix="shop", clock=SystemClock())
    broker, store = backend.broker, backend.store
    assert isinstance(broker, SqliteBroker)
    assert store is not None
    await broker.open()
    await store.open()
    await broker.declare([QueueSpec(name=LANE.queue)])
    (view,) = await store.get(["job-1"])
    assert view is not None
    assert view.state == State.QUEUED
    answers = await store.schedule([job(2, "old"), job(3, "new")])
    assert list(answers) == [Held(id="job-1"), Reserved(id="job-3")]
    (taken,) = await store.take(owner="relay", lease=HOUR, ahead=ZERO, limit=10)
    assert taken.outgoing.id == "job-3"
    assert (await broker.stats([LANE.queue]))[0].ready == 1
    await store.close()
    await broker.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(migrations()),)


async def test_the_leases_of_another_boot_have_lapsed(tmp_path: Path) -> None:
    """Also those of messages in the outbox."""
    path = tmp_path / "jobs.db"
    for boot, expected in (("one", ["job-1"]), ("one", []), ("other", ["job-1"])):
        options = Options(path=path, lock_timeout=1.0, boot=partial(str, boot))
        store = connect(options, prefix="shop", clock=SystemClock()).store
        assert store is not None
        await store.open()
        if boot == "one" and expected:
            await store.schedule([job(1, "key")])
        taken = await store.take(owner="relay", lease=HOUR, ahead=ZERO, limit=10)
        assert [each.outgoing.id for each in taken] == expected
        await store.close()
