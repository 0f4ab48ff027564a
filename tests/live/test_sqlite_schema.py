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
from brokerq.errors import StorageError
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


def write_version(db: sqlite3.Connection, version: int) -> None:
    """Make an empty file of an earlier version."""
    for script in migrations()[:version]:
        db.executescript(script)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {version}")


async def open_and_close(path: Path) -> None:
    options = Options(path=path, lock_timeout=1.0, boot=boot_id)
    broker = connect(options, prefix="shop", clock=SystemClock()).broker
    assert isinstance(broker, SqliteBroker)
    await broker.open()
    await broker.close()


@pytest.mark.parametrize("version", range(1, 4))
async def test_a_file_of_an_earlier_version_is_migrated(tmp_path: Path, version: int) -> None:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as db:
        write_version(db, version)
        # As it was in version 1, and until the last that has other names.
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
        asked = "SELECT value FROM brokerq_about WHERE name = 'schema'"
        assert db.execute(asked).fetchone() == (len(migrations()),)


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


async def test_a_program_may_give_its_own_tables_any_other_name(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await open_and_close(path)
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema")]
    own = [name for name in names if not name.startswith("sqlite_")]
    assert len(own) > 20
    assert all(name.startswith("brokerq_") for name in own)


@pytest.mark.parametrize("version", [0, 3, 99])
async def test_a_program_may_number_the_versions_of_its_own_tables(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "jobs.db"
    await open_and_close(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (0,)
        db.execute(f"PRAGMA user_version = {version}")
    await open_and_close(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)


async def test_what_keeps_a_file_from_being_migrated_is_named(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as db:
        write_version(db, 3)
        db.execute("CREATE TABLE orders (id)")
        db.execute("CREATE VIEW sales AS SELECT id FROM orders")
        db.execute("DROP TABLE orders")
        db.commit()
    with pytest.raises(StorageError, match=r"cannot be brought to schema 4.*view sales"):
        await open_and_close(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
        db.execute("DROP VIEW sales")
    await open_and_close(path)
