"""PostgreSQL in use: odd text, long ids, tenants, notifications, versions of the schema."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from brokerq_postgres import connect
from brokerq_postgres.database import Database
from brokerq_postgres.options import read_options

from brokerq.broker import Ack, Lane, QueueSpec, Release
from brokerq.catalogue import LetterFilter
from brokerq.clock import SystemClock
from brokerq.errors import StorageError
from brokerq.message import Message
from brokerq.records import Claimed, Held, State
from brokerq.store import Claim, Failure, Finish, Holding, JobFilter, NewJob
from brokerq.url import Url
from brokerq.wire import Head, write_headers
from tests.live.postgres_place import LANE, Place, open_place, outgoing, take_ids
from tests.services.postgres import own_schema, with_parameters

LEASE = timedelta(hours=1)
LISTENING = """
    SELECT query FROM pg_stat_activity
    WHERE query LIKE 'LISTEN%brokerq ' || trim('"' FROM '{schema}') || '%'
"""
ODD = "a\x00b\x1a\x1e\x1f\ud800 'ü' \"{,}\\"


@pytest.fixture(scope="module")
def schema() -> Iterator[str]:
    with own_schema() as url:
        yield url


def new_job(job_id: str, **values: str) -> NewJob:
    head = Head(id=job_id, job="job", first_at=datetime.now(UTC))._replace(**values)  # type: ignore[arg-type]
    message = Message(headers=write_headers(head), body=b"\x00{}")
    return NewJob(head=head, message=message, queue="jobs", level="normal")


async def test_text_that_postgresql_does_not_take_comes_back_all_the_same(schema: str) -> None:
    async with open_place(schema) as place:
        store = place.store
        wanted = new_job(f"id{ODD}", key=ODD, correlation=ODD, cause=ODD)
        wanted = wanted._replace(queue=f"queue{ODD}")
        await store.enqueue([wanted])
        assert await store.reserve([new_job("b", key=ODD)], owner=ODD, lease=LEASE) == [
            Held(id=wanted.head.id)
        ]
        (answer,) = await store.claim([Claim(job=wanted, owner=ODD, lease=LEASE)])
        assert isinstance(answer, Claimed)
        holding = Holding(id=wanted.head.id, owner=ODD, fence=answer.fence)
        failure = Failure(type=ODD, message=ODD)
        letter = Message(headers={**wanted.message.headers, "bq-dead-reason": ODD}, body=b"\x00")
        verdict = Finish(holding, State.DEAD, note=ODD, failure=failure, letter=letter, log=[ODD])
        assert await store.finish([verdict]) == [State.DEAD]
        (view,) = await store.get([wanted.head.id])
        assert view is not None
        assert (view.id, view.key, view.correlation, view.cause) == (wanted.head.id, ODD, ODD, ODD)
        assert (view.note, view.failure, list(view.log), view.worker) == (ODD, failure, [ODD], ODD)
        assert view.message == wanted.message
        (found,) = await store.search(JobFilter(queue=f"queue{ODD}", correlation=ODD), limit=2)
        assert found.id == wanted.head.id
        (dead,) = await store.letters(LetterFilter(states=None), limit=2)
        assert (dead.job_id, dead.reason, dead.message) == (wanted.head.id, ODD, letter)


async def test_ids_and_keys_of_any_length_are_kept_apart(schema: str) -> None:
    async with open_place(schema) as place:
        store = place.store
        long = "x" * 20_000
        jobs = [new_job(f"{long}{n}", key=f"{long}{n}", correlation=long) for n in range(3)]
        await store.enqueue(jobs)
        answers = await store.claim([Claim(job=job, owner="ann", lease=LEASE) for job in jobs])
        for job, answer in zip(jobs, answers, strict=True):
            assert isinstance(answer, Claimed)
            holding = Holding(id=job.head.id, owner="ann", fence=answer.fence)
            assert await store.finish([Finish(holding, State.SUCCEEDED, window=LEASE)]) == [
                State.SUCCEEDED
            ]
        held = await store.reserve([new_job("b", key=f"{long}1")], owner="ann", lease=LEASE)
        assert held == [Held(id=jobs[1].head.id)]
        await place.broker.publish([outgoing(job.head.id, tenant=long) for job in jobs])
        assert set(await take_ids(place.broker, 5)) == {job.head.id for job in jobs}


async def test_a_small_tenant_does_not_wait_behind_a_large_one(schema: str) -> None:
    async with open_place(schema) as place:
        large = [outgoing(f"large-{n}", tenant="large") for n in range(200)]
        names = [f"small-{tenant}" for tenant in range(4)]
        small = [outgoing(f"{name}-{n}", tenant=name) for name in names for n in range(5)]
        alone = [outgoing(f"alone-{n}") for n in range(5)]
        await place.broker.publish([*large, *small, *alone])
        order: list[str] = []
        async with place.broker.consume(LANE, prefetch=10) as consumer:
            while len(order) < 225:
                deliveries = await consumer.receive(10)
                order += [str(delivery.id).rsplit("-", 1)[0] for delivery in deliveries]
                assert all(await consumer.settle([(d, Ack()) for d in deliveries]))
        assert Counter(order) == {"large": 200, "alone": 5} | dict.fromkeys(names, 5)
        assert "large" in order[:10]
        assert set(order[40:]) == {"large"}


async def test_what_comes_back_before_the_place_of_the_last_claim_is_found(schema: str) -> None:
    async with open_place(schema) as place:
        await place.broker.publish([outgoing(f"{n:03}") for n in range(200)])
        seen: list[str | None] = []
        async with (
            place.broker.consume(LANE, prefetch=200) as consumer,
            place.broker.consume(LANE, prefetch=200) as other,
        ):
            held = await other.receive(20)
            while len(seen) < 200:
                deliveries = await asyncio.wait_for(consumer.receive(10), 30)
                seen += [delivery.id for delivery in deliveries]
                if len(seen) == 100:
                    back = [(delivery, Release()) for delivery in held]
                    assert all(await other.settle(back))
        assert set(seen) == {f"{n:03}" for n in range(200)}
        assert seen[:100] == [f"{n:03}" for n in range(20, 120)]


async def test_more_tenants_than_one_claim_can_serve_all_have_their_turn(schema: str) -> None:
    async with open_place(schema) as place:
        await place.broker.publish(
            [outgoing(f"{t}-{n}", tenant=f"{t:03}") for t in range(250) for n in range(2)]
        )
        first: list[str] = []
        async with place.broker.consume(LANE, prefetch=500) as consumer:
            while len(first) < 250:
                deliveries = await consumer.receive(7)
                first += [str(delivery.id).split("-")[0] for delivery in deliveries]
        assert max(Counter(first[:245]).values()) == 1


async def test_tenants_whose_messages_are_not_due_hold_nobody_up(schema: str) -> None:
    async with open_place(schema) as place:
        tenants = [outgoing(f"{n}", tenant=f"{n:04}") for n in range(350)]
        later = [replace(each, delay=LEASE) for each in tenants]
        await place.broker.publish([*later, outgoing("now", tenant="zzz")])
        assert await asyncio.wait_for(take_ids(place.broker, 3), 30) == ["now"]


async def test_another_process_s_message_is_heard_of_at_once(schema: str) -> None:
    slow = with_parameters(schema, poll="1h")
    async with (
        open_place(slow, "app") as place,
        open_place(slow, "app") as other,
        place.broker.consume(LANE, prefetch=1) as consumer,
    ):
        waiting = asyncio.ensure_future(consumer.receive(1))
        await _until_listening(place)
        since = time.monotonic()
        await other.broker.publish([outgoing("heard")])
        (delivery,) = await asyncio.wait_for(waiting, 30)
        assert delivery.id == "heard"
        assert time.monotonic() - since < 10


async def _until_listening(place: Place) -> None:
    wanted = [(f'LISTEN "{place.options.channel}"',)]
    async with asyncio.timeout(30):
        while place.run(LISTENING) != wanted:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)


async def test_a_message_nobody_was_told_of_is_found_by_looking(schema: str) -> None:
    quick = with_parameters(schema, poll="100ms")
    async with open_place(quick) as place, place.broker.consume(LANE, prefetch=1) as consumer:
        waiting = asyncio.ensure_future(consumer.receive(1))
        place.run(
            "INSERT INTO {schema}.messages (lane, body) SELECT max(id), 'x' FROM {schema}.lanes"
        )
        (delivery,) = await asyncio.wait_for(waiting, 30)
        assert delivery.message.body == b"x"


async def test_a_schema_of_a_newer_version_is_refused() -> None:
    with own_schema() as url:
        async with open_place(url) as place:
            place.run("UPDATE {schema}.about SET version = 99, needs = '9.9'")
        with pytest.raises(StorageError, match=r"version 99 and needs brokerq 9\.9 or newer"):
            await place.broker.open()


async def test_a_schema_that_is_not_there_is_refused_where_it_may_not_be_made() -> None:
    with own_schema() as url:
        database = Database(read_options(Url.parse(url)), prefix="shop", migrate=False)
        with pytest.raises(StorageError, match="is not there"):
            await database.open()
        async with open_place(url):
            await database.open()
            await database.close()


async def test_many_may_make_the_schema_at_once() -> None:
    with own_schema() as url:
        options = read_options(Url.parse(url))
        brokers = [connect(options, prefix="a", clock=SystemClock()).broker for _ in range(8)]
        await asyncio.gather(*(broker.open() for broker in brokers if broker is not None))
        specs = [QueueSpec(name="jobs", levels=("high", "low"))]
        await asyncio.gather(*(broker.declare(specs) for broker in brokers if broker is not None))
        for broker in brokers:
            assert broker is not None
            await broker.publish([outgoing("x", lane=Lane(queue="jobs", level="high"))])
            await broker.close()


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    url = "postgresql://shop:hunter2@127.0.0.1:1/jobs?connect_timeout=2"
    broker = connect(read_options(Url.parse(url)), prefix="a", clock=SystemClock()).broker
    assert broker is not None
    with pytest.raises(Exception, match="cannot be reached") as refused:
        await broker.open()
    assert "hunter2" not in str(refused.value)
