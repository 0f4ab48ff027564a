"""One program, every broker: the same effects, the same histories, the same dead letters.

A new adapter joins by one line in `URLS`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
import pytest_asyncio

from brokerq import (
    BrokerQ,
    Context,
    Drop,
    Job,
    JobFilter,
    LetterFilter,
    Limits,
    Reject,
    RetryAfter,
    RetryPolicy,
    Snooze,
    State,
)
from brokerq.broker import Lane, Outgoing, QueueSpec
from brokerq.clock import SystemClock
from brokerq.connect import open_backends
from brokerq.errors import KeyConflictError
from brokerq.message import Message
from tests.contract import rabbitmq_place
from tests.services import postgres, sqs
from tests.services.rabbitmq import standing_url

URLS = {
    "memory": ("memory://{name}", None),
    "sqlite": ("sqlite:///{folder}/jobs.db", None),
    "rabbitmq": ("{rabbitmq}", "sqlite:///{folder}/records.db"),
    "postgresql": ("{postgresql}", None),
    "sqs": ("sqs://us-east-1?endpoint={sqs}", "sqlite:///{folder}/records.db"),
}
"""Broker and, where the broker is none, store."""
SPECS = [QueueSpec(name="mixed", levels=("high", "normal")), QueueSpec(name="default")]
SOON = "250ms"
ALL = 100


class Place(NamedTuple):
    """Where the program keeps what it needs."""

    url: str
    store_url: str | None
    prefix: str


class Shop:
    """The program. Each publish has a label, as its correlation id, to tell its job by."""

    work: Job[[str], str]
    pay: Job[[str, int], int]
    sleep: Job[[], None]
    add: Job[[int, int], int]

    def __init__(self, place: Place) -> None:
        self.place = place
        self.bq = BrokerQ(
            "shop",
            url=place.url,
            store_url=place.store_url,
            prefix=place.prefix,
            limits=Limits(unknown_wait=timedelta(milliseconds=500)),
        )
        self.effects: defaultdict[str, list[str]] = defaultdict(list)
        self.repaired = False
        self.bq.queue("mixed", priorities=("high", "normal"))
        self.declare_work()
        self.declare_others()

    def note(self, ctx: Context, effect: str) -> int:
        """Write down what a handler does; return how often the job did something by then."""
        self.effects[str(ctx.correlation)].append(effect)
        return len(self.effects[str(ctx.correlation)])

    def declare_work(self) -> None:
        """The job that ends in every way there is."""
        retry = RetryPolicy(
            initial="10ms", jitter="none", on={KeyError: "reject", IndexError: "drop"}
        )

        @self.bq.job(queue="mixed", retry=retry)
        async def work(ctx: Context, what: str) -> str:
            runs = self.note(ctx, f"{what}, attempt {ctx.attempt} of {ctx.max_attempts}")
            match what:
                case "fail":
                    raise ValueError(what)
                case "fail once" if runs == 1:
                    raise ValueError(what)
                case "reject" if not self.repaired:
                    raise Reject(what)
                case "drop":
                    raise Drop(what)
                case "snooze" if runs == 1:
                    raise Snooze(SOON)
                case "retry after" if runs == 1:
                    raise RetryAfter(SOON)
                case "mapped to reject":
                    raise KeyError(what)
                case "mapped to drop":
                    raise IndexError(what)
                case _:
                    return what

        self.work = work

    def declare_others(self) -> None:
        """A job with a key, one that takes too long, and one that is no coroutine."""

        @self.bq.job(idempotency_key="order")
        async def pay(ctx: Context, order: str, cents: int) -> int:
            self.note(ctx, f"{order} pays {cents} under {ctx.effect_key}")
            return cents

        @self.bq.job(timeout=SOON, retry=RetryPolicy(max_attempts=1))
        async def sleep() -> None:
            await asyncio.sleep(60)

        @self.bq.job()
        def add(ctx: Context, first: int, second: int) -> int:
            self.note(ctx, f"{first} + {second}")
            return first + second

        self.pay, self.sleep, self.add = pay, sleep, add

    async def publish(self) -> dict[str, object]:
        """Publish all there is; return what publishing answered."""
        for what in ("succeed", "fail", "fail once", "reject", "drop", "snooze", "retry after"):
            await self.work.options(correlation=what).publish(what)
        for what in ("mapped to reject", "mapped to drop"):
            await self.work.options(correlation=what).publish(what)
        options = self.work.options
        past = datetime.now(UTC) - timedelta(seconds=1)
        await options(delay=SOON, correlation="delayed").publish("succeed")
        await options(priority="high", correlation="urgent").publish("succeed")
        await options(max_attempts=1, correlation="one attempt").publish("fail")
        await options(deadline=past, correlation="too late").publish("succeed")
        cancelled = await options(delay=SOON, correlation="cancelled").publish("succeed")
        await self.sleep.options(correlation="timeout").publish()
        await self.add.options(correlation="plain").publish(2, 3)
        await self.bq.publish("unheard_of", {"n": 1}, queue="mixed", correlation="unknown")
        await self.send_by_hand("invalid", "work", b'{"who": 1}')
        await self.send_by_hand("undecodable", "work", b"\xff\x00 no JSON")
        await self.send_by_hand("by hand", "work", b'{"what": "succeed"}')
        return {"cancelled": await cancelled.cancel(), **await self.publish_with_keys()}

    async def publish_with_keys(self) -> dict[str, object]:
        """One order, published four times in all."""
        first = await self.pay.options(correlation="paid").publish("o-1", 5)
        again = await self.pay.options(correlation="paid again").publish("o-1", 5)
        with pytest.raises(KeyConflictError) as conflict:
            await self.pay.options(correlation="paid otherwise").publish("o-1", 6)
        await self.send_by_hand("same by hand", "pay", b'{ "cents": 5, "order": "o-1" }')
        await self.send_by_hand("other by hand", "pay", b'{"order": "o-1", "cents": 999}')
        return {
            "paid twice": "one job" if again.id == first.id and again.duplicate else "two jobs",
            "paid otherwise": "refused" if conflict.value.job_id == first.id else "what?",
        }

    async def send_by_hand(self, label: str, job: str, body: bytes) -> None:
        """Send what a program in another language would: headers and a body, and no record."""
        place = self.place
        backends = open_backends(
            place.url,
            place.store_url,
            app="shop",
            clock=SystemClock(),
            cwd=Path.cwd(),
            prefix=place.prefix,
        )
        broker = backends.broker
        headers = {"bq-id": str(uuid4()), "bq-job": job, "bq-correlation": label}
        lane = Lane(queue=self.bq.registry.job(job).queue)
        await broker.open()
        message = Message(headers=headers, body=body)
        await broker.publish([Outgoing(lane=lane, message=message, id=headers["bq-id"])])
        await broker.close()


class Letter(NamedTuple):
    """What a dead letter says, without times and places."""

    reason: str
    attempts: str
    error: str | None
    body: bytes


class Observed(NamedTuple):
    """What the program left behind, by label."""

    answers: dict[str, object]
    effects: dict[str, list[str]]
    histories: dict[str, str]
    letters: dict[str, Letter]
    after_redrive: str
    left: list[tuple[str, int, int, int, int]]


async def run(shop: Shop) -> Observed:
    """Publish, work until nothing is left; repair, redrive, work again."""
    bq = shop.bq
    async with bq:
        answers = await shop.publish()
        await bq.run_worker(burst=True)
        histories = await read_histories(bq)
        letters = await read_letters(bq)
        shop.repaired = True
        [rejected] = await bq.jobs.search(JobFilter(correlation="reject"), limit=2)
        await bq.dead_letters.redrive([rejected.id], by="the test")
        await bq.run_worker(burst=True)
        for label in ("plain", "paid", "reject"):
            [view] = await bq.jobs.search(JobFilter(correlation=label), limit=2)
            answers[f"result of {label}"] = await bq.handle(view.id).result()
        return Observed(
            answers=answers,
            effects=dict(shop.effects),
            histories=histories,
            letters=letters,
            after_redrive=(await read_histories(bq))["reject"],
            left=[
                (each.queue, each.ready, each.in_flight, each.delayed, each.dead)
                for each in await bq.queues.stats(["mixed", "default"])
            ],
        )


async def read_histories(bq: BrokerQ) -> dict[str, str]:
    """Return each job's states, with the attempts counted by then.

    `reserved` is left out: it is seen only where key and message are not taken in one transaction.
    """
    return {
        str(view.correlation): " ".join(
            f"{step.state}:{step.attempt}" for step in view.history if step.state != State.RESERVED
        )
        for view in await bq.jobs.search(JobFilter(), limit=ALL)
    }


async def read_letters(bq: BrokerQ) -> dict[str, Letter]:
    """Return what there is in the catalogue."""
    return {
        letter.message.headers["bq-correlation"]: Letter(
            reason=letter.reason,
            attempts=letter.message.headers["bq-dead-attempts"],
            error=letter.error_type,
            body=letter.message.body,
        )
        for letter in await bq.dead_letters.search(LetterFilter(), limit=ALL)
    }


@pytest_asyncio.fixture(params=URLS)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Place]:
    name: str = request.param
    prefix = f"equality-{uuid4().hex[:12]}"
    values: dict[str, object] = {"name": prefix, "folder": tmp_path}
    async with AsyncExitStack() as stack:
        if name == "rabbitmq":
            values["rabbitmq"] = standing_url()
            rabbit = await stack.enter_async_context(rabbitmq_place.rabbit_place())
            rabbit.declared += [(prefix, spec) for spec in SPECS]
        elif name == "postgresql":
            values["postgresql"] = stack.enter_context(postgres.own_schema())
        elif name == "sqs":
            values["sqs"] = sqs.ministack()
            for variable, value in sqs.CREDENTIALS.items():
                monkeypatch.setenv(variable, value)
        url, store_url = (text and text.format_map(values) for text in URLS[name])
        yield Place(url=str(url), store_url=store_url, prefix=prefix)


@pytest.mark.timeout(sqs.INSTALLATION)
async def test_one_program_leaves_the_same_behind_on_every_broker(place: Place) -> None:
    observed = await run(Shop(place))
    assert observed.answers == {
        "cancelled": "cancelled",
        "paid twice": "one job",
        "paid otherwise": "refused",
        "result of plain": 5,
        "result of paid": 5,
        "result of reject": "reject",
    }
    assert observed.effects == EFFECTS
    assert observed.histories == HISTORIES
    assert observed.letters == LETTERS
    assert observed.after_redrive == "queued:0 running:0 dead:1 queued:0 running:0 succeeded:1"
    assert observed.left == [("mixed", 0, 0, 0, 7), ("default", 0, 0, 0, 2)]


EFFECTS = {
    "succeed": ["succeed, attempt 1 of 3"],
    "fail": ["fail, attempt 1 of 3", "fail, attempt 2 of 3", "fail, attempt 3 of 3"],
    "fail once": ["fail once, attempt 1 of 3", "fail once, attempt 2 of 3"],
    "reject": ["reject, attempt 1 of 3", "reject, attempt 1 of 3"],  # the second by redrive
    "drop": ["drop, attempt 1 of 3"],
    "snooze": ["snooze, attempt 1 of 3", "snooze, attempt 1 of 3"],
    "retry after": ["retry after, attempt 1 of 3", "retry after, attempt 2 of 3"],
    "mapped to reject": ["mapped to reject, attempt 1 of 3"],
    "mapped to drop": ["mapped to drop, attempt 1 of 3"],
    "delayed": ["succeed, attempt 1 of 3"],
    "urgent": ["succeed, attempt 1 of 3"],
    "one attempt": ["fail, attempt 1 of 1"],
    "plain": ["2 + 3"],
    "paid": ["o-1 pays 5 under pay:o-1"],
    "by hand": ["succeed, attempt 1 of 3"],
}
DONE = "queued:0 running:0 succeeded:1"
HISTORIES = {
    "succeed": DONE,
    "fail": "queued:0 running:0 retrying:1 running:1 retrying:2 running:2 dead:3",
    "fail once": "queued:0 running:0 retrying:1 running:1 succeeded:2",
    "reject": "queued:0 running:0 dead:1",
    "drop": "queued:0 running:0 skipped:0",
    "snooze": "queued:0 running:0 scheduled:0 running:0 succeeded:1",
    "retry after": "queued:0 running:0 retrying:1 running:1 succeeded:2",
    "mapped to reject": "queued:0 running:0 dead:1",
    "mapped to drop": "queued:0 running:0 skipped:0",
    "delayed": "scheduled:0 running:0 succeeded:1",
    "urgent": DONE,
    "one attempt": "queued:0 running:0 dead:1",
    "too late": "queued:0 running:0 expired:0",
    "cancelled": "scheduled:0 cancelled:0",
    "timeout": "queued:0 running:0 dead:1",
    "plain": DONE,
    "unknown": "queued:0 running:0 scheduled:0 running:0 dead:0",
    "paid": DONE,
    # Nobody recorded these as published: their histories begin with their first delivery.
    "invalid": "running:0 dead:0",
    "undecodable": "running:0 dead:0",
    "by hand": "running:0 succeeded:1",
    "same by hand": "skipped:0",
    "other by hand": "running:0 dead:0",
}
LETTERS = {
    "fail": Letter("exhausted", "3", "ValueError", b'{"what":"fail"}'),
    "one attempt": Letter("exhausted", "1", "ValueError", b'{"what":"fail"}'),
    "timeout": Letter("exhausted", "1", "brokerq.outcome.JobTimeoutError", b"{}"),
    "reject": Letter("rejected", "1", "brokerq.outcome.Reject", b'{"what":"reject"}'),
    "mapped to reject": Letter("rejected", "1", "KeyError", b'{"what":"mapped to reject"}'),
    "too late": Letter("expired", "0", None, b'{"what":"succeed"}'),
    "unknown": Letter("unknown_job", "0", None, b'{"n":1}'),
    "undecodable": Letter("undecodable", "0", None, b"\xff\x00 no JSON"),
    "invalid": Letter("invalid", "0", None, b'{"who": 1}'),
    "other by hand": Letter("key_conflict", "0", None, b'{"order": "o-1", "cents": 999}'),
}
