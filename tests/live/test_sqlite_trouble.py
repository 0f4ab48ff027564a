"""A SQLite file that is locked, read-only, full, damaged, foreign, too new, or gone."""

# ruff: noqa: ASYNC240 - nobody else waits for the event loop of a test

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from brokerq_sqlite import SqliteBroker, SqliteStore, adapter, connect
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.session import APPLICATION_ID, Options

from brokerq.adapter import Backend
from brokerq.broker import Ack, Lane, Outgoing, QueueSpec
from brokerq.clock import SystemClock
from brokerq.errors import (
    BrokerqError,
    ConfigurationError,
    ConnectionLostError,
    PublishError,
    StorageError,
    StoreUnavailableError,
)
from brokerq.message import Message
from brokerq.url import Url

LANE = Lane(queue="jobs")
CLOCK = SystemClock()
NOBODY = 65534


def make(path: Path, *, lock_timeout: float = 0.3, max_pages: int | None = None) -> SqliteBroker:
    options = Options(path=path, lock_timeout=lock_timeout, boot=boot_id, max_pages=max_pages)
    broker = connect(options, prefix="shop", clock=CLOCK).broker
    assert isinstance(broker, SqliteBroker)
    return broker


def outgoing(body: bytes = b"{}") -> Outgoing:
    message = Message(headers={"bq-id": "job-1"}, body=body)
    return Outgoing(lane=LANE, message=message, id="job-1")


@asynccontextmanager
async def opened(path: Path, *, max_pages: int | None = None) -> AsyncGenerator[SqliteBroker]:
    broker = make(path, max_pages=max_pages)
    await broker.open()
    try:
        await broker.declare([QueueSpec(name=LANE.queue)])
        yield broker
    finally:
        await broker.close()


async def publish_for_ever(broker: SqliteBroker) -> None:
    while True:
        await broker.publish([outgoing(bytes(4_000)), outgoing(bytes(4_000))])


async def refusal_of(path: Path) -> BrokerqError:
    """Return the error with which the file cannot be opened."""
    with pytest.raises(BrokerqError) as refused:
        await make(path).open()
    return refused.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


# Locked


@contextmanager
def locked_by_a_process_like_ours(path: Path) -> Generator[None]:
    with path.with_name(f"{path.name}-lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_by_another_program(path: Path) -> Generator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


LOCKS = [locked_by_a_process_like_ours, locked_by_another_program]


@pytest.mark.parametrize("lock", LOCKS)
async def test_a_locked_file_is_waited_for_and_then_reported(
    path: Path, lock: Callable[[Path], AbstractContextManager[None]]
) -> None:
    async with opened(path) as broker:
        with lock(path):
            began = time.monotonic()
            with pytest.raises(PublishError, match="locked by another process") as refused:
                await broker.publish([outgoing(), outgoing()])
            assert 0.25 < time.monotonic() - began < 10
            assert (refused.value.failed, refused.value.unknown) == ((0, 1), ())
            assert isinstance(refused.value.__cause__, StoreUnavailableError)
            async with broker.consume(LANE, prefetch=1) as consumer:
                with pytest.raises(ConnectionLostError, match="lock_timeout"):
                    await consumer.receive(1)
            assert isinstance(await refusal_of(path), StoreUnavailableError)
        await broker.publish([outgoing()])


async def test_who_waited_in_vain_does_not_keep_the_lock_when_it_is_free(path: Path) -> None:
    async with opened(path) as broker, opened(path) as other:
        with locked_by_a_process_like_ours(path):
            for _ in range(2):
                with pytest.raises(PublishError):
                    await broker.publish([outgoing()])
        await other.publish([outgoing()])
        await broker.publish([outgoing()])


async def test_what_is_read_does_not_wait_for_who_writes(path: Path) -> None:
    async with opened(path) as broker:
        await broker.publish([outgoing()])
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            assert (await broker.stats([LANE.queue]))[0].ready == 1
            db.execute("ROLLBACK")


# Read-only


@contextmanager
def another_user() -> Generator[None]:
    """Be somebody for whom permissions count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that any user may enter."""
    with TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        directory.chmod(0o755)


async def test_a_directory_that_cannot_be_written_to_is_named(open_directory: Path) -> None:
    open_directory.chmod(0o555)
    with another_user():
        refused = await refusal_of(open_directory / "jobs.db")
    assert isinstance(refused, StorageError)
    assert "let this user write" in str(refused)
    assert list(open_directory.iterdir()) == []


async def test_a_file_that_cannot_be_written_to_is_named(open_directory: Path) -> None:
    path = open_directory / "jobs.db"
    async with opened(path):
        pass
    path.chmod(0o444)
    open_directory.chmod(0o777)
    path.with_name("jobs.db-lock").chmod(0o666)
    with another_user():
        refused = await refusal_of(path)
    assert isinstance(refused, StorageError)
    assert "can only be read" in str(refused)


async def test_a_directory_that_does_not_exist_is_made_but_not_its_parents(tmp_path: Path) -> None:
    async with opened(tmp_path / "made" / "jobs.db"):
        assert (tmp_path / "made").is_dir()
    refused = await refusal_of(tmp_path / "a" / "b" / "jobs.db")
    assert isinstance(refused, StorageError)
    assert "its directory must exist" in str(refused)


# Full


async def test_a_full_disk_refuses_what_is_published_and_lets_work_be_acknowledged(
    path: Path,
) -> None:
    async with opened(path, max_pages=60) as broker:
        await broker.publish([outgoing()])
        with pytest.raises(PublishError, match="disk is full") as refused:
            await publish_for_ever(broker)
        assert (refused.value.failed, refused.value.unknown) == ((0, 1), ())
        before = (await broker.stats([LANE.queue]))[0].ready
        async with broker.consume(LANE, prefetch=before) as consumer:
            deliveries = await consumer.receive(before)
            assert len(deliveries) == before
            assert all(await consumer.settle([(d, Ack()) for d in deliveries]))
        await broker.publish([outgoing(bytes(4_000))])


async def test_of_calls_made_together_only_those_that_do_not_fit_fail(path: Path) -> None:
    async with opened(path, max_pages=60) as broker:
        publishes = [
            broker.publish([outgoing(bytes(size))]) for size in (10, 400_000, 20, 400_000, 30)
        ]
        results = await asyncio.gather(*publishes, return_exceptions=True)
        assert [type(result) for result in results] == [
            type(None),
            PublishError,
            type(None),
            PublishError,
            type(None),
        ]
        assert (await broker.stats([LANE.queue]))[0].ready == 3


# Damaged, foreign, too new, gone


async def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    garbage = b"order_id,cents\n" * 100
    path.write_bytes(garbage)
    refused = await refusal_of(path)
    assert isinstance(refused, StorageError)
    assert "is no SQLite database" in str(refused)
    assert path.read_bytes() == garbage


async def test_a_damaged_file_is_reported_with_what_to_do(path: Path) -> None:
    async with opened(path) as broker:
        await broker.publish([outgoing(b"x" * 100) for _ in range(2_000)])
    data = bytearray(path.read_bytes())
    data[4096 : len(data)] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    refused = await refusal_of(path)
    assert isinstance(refused, StorageError)
    assert ".recover" in str(refused)


@pytest.mark.parametrize("application_id", [0, 1234])
async def test_a_database_of_another_program_is_left_alone(path: Path, application_id: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE orders (id)")
        db.execute(f"PRAGMA application_id = {application_id}")
    before = path.read_bytes()
    refused = await refusal_of(path)
    assert isinstance(refused, StorageError)
    assert "another program" in str(refused)
    assert path.read_bytes() == before


async def test_a_file_of_a_newer_brokerq_says_which_one_it_needs(path: Path) -> None:
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE brokerq_about SET value = '7.5.0' WHERE name = 'needs'")
        db.execute("UPDATE brokerq_about SET value = 99 WHERE name = 'schema'")
    refused = await refusal_of(path)
    assert isinstance(refused, StorageError)
    assert "needs brokerq 7.5.0" in str(refused)
    assert "schema 99" in str(refused)


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_written_into_a_file_that_was_removed(
    path: Path, *, replaced: bool
) -> None:
    async with opened(path) as broker:
        await broker.publish([outgoing()])
        aside = path.with_name("aside.db")
        path.rename(aside)
        if replaced:
            path.write_bytes(b"")
        with pytest.raises(PublishError, match="removed or replaced"):
            await broker.publish([outgoing()])
        async with broker.consume(LANE, prefetch=1) as consumer:
            with pytest.raises(StorageError, match="would be lost"):
                await consumer.receive(1)
        aside.rename(path)
        await broker.publish([outgoing()])
        assert (await broker.stats([LANE.queue]))[0].ready == 2


async def test_what_was_committed_is_there_after_the_write_ahead_log_was_left_behind(
    path: Path,
) -> None:
    """As after a crash: the log was never moved into the file."""
    async with opened(path) as broker:
        await broker.publish([outgoing()])
        copy = path.with_name("copy.db")
        for suffix in ("", "-wal"):
            data = Path(f"{path}{suffix}").read_bytes()
            Path(f"{copy}{suffix}").write_bytes(data)
    async with opened(copy) as after:
        assert (await after.stats([LANE.queue]))[0].ready == 1


async def test_ten_brokers_that_open_a_new_file_at_once_all_succeed(path: Path) -> None:
    brokers = [make(path, lock_timeout=10) for _ in range(10)]
    await asyncio.gather(*(broker.open() for broker in brokers))
    await brokers[0].declare([QueueSpec(name=LANE.queue)])
    await asyncio.gather(*(broker.publish([outgoing()]) for broker in brokers))
    assert (await brokers[3].stats([LANE.queue]))[0].ready == 10
    await asyncio.gather(*(broker.close() for broker in brokers))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# The URL


def read(text: str) -> Backend:
    return adapter(Url.parse(text), prefix="shop", clock=CLOCK)


def path_of(text: str) -> Path:
    broker = read(text).broker
    assert isinstance(broker, SqliteBroker)
    return broker.database.path


def test_three_slashes_are_relative_and_four_are_absolute() -> None:
    assert path_of("sqlite:///jobs.db") == Path.cwd() / "jobs.db"
    assert path_of("sqlite:///.brokerq/shop.db") == Path.cwd() / ".brokerq" / "shop.db"
    assert path_of("sqlite:////var/lib/jobs.db") == Path("/var/lib/jobs.db")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///folder/", "names no file"),
        ("sqlite://jobs.db", "names a host"),
        ("sqlite:///jobs.db?journal=off", "does not know the parameter"),
        ("sqlite:///jobs.db?lock_timeout=5", "lock_timeout"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_a_hint(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read(text)


async def test_the_url_says_how_long_to_wait_for_the_lock(path: Path) -> None:
    async with opened(path):
        pass
    store = read(f"sqlite:///{path}?lock_timeout=100ms").store
    assert isinstance(store, SqliteStore)
    with locked_by_a_process_like_ours(path):
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.open()
        assert timedelta(seconds=time.monotonic() - began) < timedelta(seconds=4)
