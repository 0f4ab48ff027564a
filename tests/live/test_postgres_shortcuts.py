"""The statements for the plain case do what the rules say, and nothing where it is not plain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from brokerq_postgres.jobs import claim as claim_by_the_rules
from brokerq_postgres.outgoing import prepare
from brokerq_postgres.publishing import publish as publish_by_the_rules
from brokerq_postgres.shortcuts import Shortcuts

from brokerq.broker import Lane, Outgoing
from brokerq.errors import PublishError
from brokerq.message import Message
from brokerq.records import Claimed, Record, Reserved, State
from brokerq.store import Claim, Finish, Holding, NewJob
from brokerq.wire import Head, write_headers
from tests.live.postgres_place import LANE, Place, open_place
from tests.services.postgres import own_schema

LEASE = timedelta(hours=1)
WRITTEN = """
    SELECT id, state, epoch, claimed, attempts, crashes, owner, due_at, worker,
        split_part(history, ' ', 1), split_part(history, ' ', 3)
    FROM {schema}.jobs WHERE app = {app}
"""
DIGESTS = "SELECT id, md5(jobs::text) FROM {schema}.jobs WHERE app = {app}"
SUCCEEDED = """
    SELECT state, epoch, claimed, attempts, crashes, owner, lease_until, due_at, key, cancelling,
        worker, ended_as, was_due_at, shown, buried, note, result, result_until - ended_at,
        keep_until - ended_at,
        (SELECT expires_at - ended_at FROM {schema}.keys WHERE keys.app = jobs.app)
    FROM {schema}.jobs WHERE app = {app}
"""
NOW = datetime.now(UTC)
PAST, FUTURE = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


@pytest.fixture(scope="module")
def schema() -> Iterator[str]:
    with own_schema() as url:
        yield url


def records() -> list[Record]:
    """Return a record of every kind that a claim may meet."""
    made: list[Record] = []
    for state, epoch, claimed, due_at, lease in product(
        State, (0, 1, 2), (False, True), (None, PAST, FUTURE), (PAST, FUTURE)
    ):
        running = state == State.RUNNING
        record = Record(
            id=f"job-{len(made)}",
            state=state,
            first_at=PAST,
            epoch=epoch,
            claimed=claimed,
            attempts=2,
            crashes=1,
            fence=0,
            owner="bob" if running else None,
            lease_until=lease.timestamp() if running else 0.0,
            due_at=due_at,
        )
        made.append(record)
    return made


def job(record: Record, not_before: datetime | None = None) -> NewJob:
    """Return the job as a message of epoch one tells it, with more attempts and fewer crashes."""
    head = Head(id=record.id, job="job", first_at=PAST, epoch=1, attempts=3, not_before=not_before)
    message = Message(headers=write_headers(head), body=b"{}")
    return NewJob(head=head, message=message, queue="jobs", level="normal")


async def write(place: Place, made: list[Record]) -> None:
    """Put the records there as they are."""
    for record in made:
        names = ("state", "epoch", "claimed", "attempts", "crashes", "fence", "owner")
        values = {name: getattr(record, name) for name in names}
        values |= {"lease_until": record.lease_until, "due_at": record.due_at, "id": record.id}
        values |= {"app": place.database.app, "first_at": record.first_at}
        await place.database.fetch_statement(
            place.database.queries.fill(
                "INSERT INTO {schema}.jobs (app, id, state, first_at, epoch, claimed, attempts,"
                " crashes, fence, owner, lease_until, due_at, redrives, cancelling, job, queue,"
                " level, history) VALUES (%(app)s, %(id)s, %(state)s, %(first_at)s, %(epoch)s,"
                " %(claimed)s, %(attempts)s, %(crashes)s, %(fence)s, %(owner)s, %(lease_until)s,"
                " %(due_at)s, 0, false, 'job', 'jobs', 'normal', '')"
            ),
            values,
        )


@pytest.mark.parametrize("not_before", [None, PAST])
async def test_a_claim_in_one_statement_answers_as_the_rules_do(
    schema: str, not_before: datetime | None
) -> None:
    made = records()
    claims = [Claim(job=job(record, not_before), owner="ann", lease=LEASE) for record in made]
    async with open_place(schema) as short, open_place(schema) as long:
        await write(short, made)
        await write(long, made)
        by_statement = await Shortcuts(short.database).claim(claims)
        by_rules = await long.database.change(lambda t: claim_by_the_rules(t, claims))
        for position, (record, wanted) in enumerate(zip(made, by_rules, strict=True)):
            answer = by_statement.get(position)
            if answer is None:
                assert not isinstance(wanted, Claimed) or record.state == State.RUNNING, record
                continue
            assert isinstance(wanted, Claimed), record
            assert answer == wanted._replace(fence=answer.fence, at=answer.at), record
            assert answer.fence > record.fence
        touched = {made[position].id for position in by_statement}
        ours, theirs = (
            {row[0]: row for row in place.run(WRITTEN) if row[0] in touched}
            for place in (short, long)
        )
        assert ours == theirs
        assert ours.keys() == touched


async def test_what_the_statement_leaves_is_as_it_was(schema: str) -> None:
    made = [record for record in records() if record.state != State.QUEUED]
    claims = [Claim(job=job(record), owner="ann", lease=LEASE) for record in made]
    async with open_place(schema) as place:
        await write(place, made)
        before = {row[0]: row for row in place.run(DIGESTS)}
        answers = await Shortcuts(place.database).claim(claims)
        after = {row[0]: row for row in place.run(DIGESTS)}
        left = [record.id for position, record in enumerate(made) if position not in answers]
        assert [before[job_id] for job_id in left] == [after[job_id] for job_id in left]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {schema}.jobs SET fence = fence + 1 WHERE app = {app}",
        "UPDATE {schema}.jobs SET owner = 'bob' WHERE app = {app}",
        "UPDATE {schema}.jobs SET state = 'queued', owner = NULL WHERE app = {app}",
        "UPDATE {schema}.jobs SET state = 'cancelled', ended_at = now() WHERE app = {app}",
        "DELETE FROM {schema}.jobs WHERE app = {app}",
    ],
)
async def test_a_success_is_not_recorded_in_one_statement_once_the_lease_is_lost(
    schema: str, change: str
) -> None:
    async with open_place(schema) as place:
        wanted = job(Record(id="job", state=State.QUEUED, first_at=PAST, epoch=1))
        await place.store.enqueue([wanted])
        (answer,) = await place.store.claim([Claim(job=wanted, owner="ann", lease=LEASE)])
        assert isinstance(answer, Claimed)
        place.run(change)
        holding = Holding(id="job", owner="ann", fence=answer.fence)
        assert list(await place.store.finish([Finish(holding, State.SUCCEEDED)])) == [None]


async def test_a_success_is_recorded_alike_either_way(schema: str) -> None:
    """In one statement by the store that has claimed the job, by the rules by any other."""
    views: list[object] = []
    for app in ("short", "long"):
        async with open_place(schema, app) as place, open_place(schema, app) as other:
            wanted = job(Record(id="job", state=State.QUEUED, first_at=PAST))
            keyed = wanted._replace(head=wanted.head._replace(key="order-1"))
            await place.store.enqueue([keyed])
            (answer,) = await place.store.claim([Claim(job=keyed, owner="ann", lease=LEASE)])
            assert isinstance(answer, Claimed)
            verdict = Finish(
                Holding(id="job", owner="ann", fence=answer.fence),
                State.SUCCEEDED,
                attempt=True,
                window=LEASE,
                result=b"1",
                result_ttl=LEASE,
            )
            store = place.store if app == "short" else other.store
            assert list(await store.finish([verdict])) == [State.SUCCEEDED]
            views += place.run(SUCCEEDED)
    assert views[0] == views[1]


PUBLISHED = """
    SELECT
        jobs.id, jobs.state, first_at, jobs.epoch, claimed, attempts, crashes, fence, owner,
        lease_until, jobs.due_at > ready_at + interval '30 s',
        jobs.due_at < ready_at - interval '30 s', ready_at < now() + interval '90 s',
        ready_at < now() + interval '30 s', expires_at, key, redrives, cancelling, job,
        jobs.queue, level, user_key, tags, correlation, cause, worker, split_part(history, ' ', 1),
        split_part(history, ' ', 3), ended_at, tenant, order_key, deliveries, holder,
        messages.due_at = ready_at, messages.headers, messages.body, payloads.headers,
        payloads.body, rank() OVER (ORDER BY messages.id)
    FROM {schema}.jobs
    JOIN {schema}.payloads ON payloads.app = jobs.app AND payloads.id = jobs.id
    LEFT JOIN {schema}.messages ON messages.job_id = jobs.id
        AND lane IN (
            SELECT lanes.id FROM {schema}.lanes JOIN {schema}.queues ON queues.id = lanes.queue
            WHERE queues.app = {app}
        )
    WHERE jobs.app = {app} ORDER BY jobs.id
"""


def published(count: int, *, alike: bool) -> list[tuple[NewJob, Outgoing]]:
    """Return jobs that differ in nothing but id and payload, or in everything they may."""
    made: list[tuple[NewJob, Outgoing]] = []
    for number in range(count):
        own = 0 if alike else number
        kind = ("", "a", 'b"\\', "c\x00\ud800")[own % 4]
        head = Head(
            id=f"job-{number:04}" if alike else f"job-{number:04}{kind}" + "x" * (own % 3 * 700),
            job=f"job{kind}",
            first_at=PAST + timedelta(microseconds=own),
            epoch=own % 3,
            attempts=own % 5,
            crashes=own % 2,
            not_before=(None, PAST, FUTURE)[own % 3],
            expires_at=(None, FUTURE)[own % 2],
            cause=kind or None,
            correlation=None if alike else f"{kind}{own % 7}",
            redrives=own % 2,
            tags=(kind,) * (own % 3),
        )
        delay = timedelta(minutes=own % 4) if head.not_before is None else timedelta(0)
        message = Message(headers=write_headers(head), body=str(number).encode())
        new = NewJob(head=head, message=message, queue=LANE.queue, level=LANE.level, delay=delay)
        tenant = kind or None
        sent = Outgoing(lane=LANE, message=message, id=head.id, delay=delay, tenant=tenant)
        made.append((new, sent))
    return made


@pytest.mark.parametrize("count", [1, 7, 600])
@pytest.mark.parametrize("alike", [True, False])
async def test_jobs_are_published_alike_either_way(schema: str, count: int, *, alike: bool) -> None:
    jobs = published(count, alike=alike)
    async with open_place(schema) as short, open_place(schema) as long:
        lanes = await short.broker.topology.look()
        assert await Shortcuts(short.database).publish(jobs, lanes)
        rows = prepare([sent for _, sent in jobs], await long.broker.topology.look()).rows
        news = [new for new, _ in jobs]
        answers = await long.database.change(lambda t: publish_by_the_rules(t, news, rows))
        assert all(isinstance(answer, Reserved) for answer in answers)
        ours, theirs = short.run(PUBLISHED), long.run(PUBLISHED)
        assert len(ours) == count
        for one, other in zip(ours, theirs, strict=True):
            assert one == other


@pytest.mark.parametrize("known", [0, 300, 599])
async def test_of_many_jobs_the_one_that_is_known_is_not_recorded_again(
    schema: str, known: int
) -> None:
    jobs = published(600, alike=True)
    async with open_place(schema) as place:
        await place.store.enqueue([jobs[known][0]])
        (before,) = place.run(DIGESTS)
        lanes = await place.broker.topology.look()
        assert not await Shortcuts(place.database).publish(jobs, lanes)
        assert place.run(DIGESTS) == [before]
        assert list(await place.store.publish_recorded(jobs)) == [
            Reserved(id=new.head.id) for new, _ in jobs
        ]
        assert before in place.run(DIGESTS)
        rows = place.run(PUBLISHED)
        assert len({row[-1] for row in rows}) == len(rows) == 600


async def test_of_many_jobs_none_is_published_where_one_cannot_be(schema: str) -> None:
    jobs = published(600, alike=True)
    new, sent = jobs[400]
    jobs[400] = new, replace(sent, lane=Lane(queue="nobody's"))
    async with open_place(schema) as place:
        with pytest.raises(PublishError) as refused:
            await place.store.publish_recorded(jobs)
        assert set(refused.value.failed) == set(range(600))
        assert place.run(PUBLISHED) == []
