"""What cannot be is refused, with a sentence that says what to do instead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from brokerq import BrokerQ, LetterState, RetryPolicy, State
from brokerq.catalogue import NotRedriven, Redrive
from brokerq.errors import BrokerqError, ConfigurationError, NotFoundError, RefusedError
from tests.engine.conftest import ONCE, Place

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"delay": 5}, r'delay .*5.* is not a duration: write a number and a unit, as in "250ms"'),
    ({"delay": "-5s"}, "delay must not be negative"),
    ({"delay": "soon"}, "delay 'soon' is not a duration: write a number and a unit"),
    ({"delay": "1s", "at": None, "deadline": 3}, "deadline .*3.* is not a duration"),
    ({"at": "tomorrow"}, "at must be a datetime with a time zone"),
    ({"key": 17}, r"key must be text, not int: use str\(...\)"),
    ({"key": "x" * 256}, "key has 256 characters, 255 are allowed: use a digest"),
    ({"tags": "nightly"}, r"tags is a list of words: write \['nightly'\]"),
    ({"tags": [7]}, "a tag must be text, not int"),
    ({"headers": {"bq-id": "1"}}, "names that begin with bq- or x- are reserved"),
    ({"headers": {"shop": 7}}, "header 'shop' must be text, not int"),
    ({"correlation": "\ud800"}, "correlation cannot be sent as UTF-8"),
    ({"max_attempts": 0}, "max_attempts must be at least 1, got 0"),
    ({"max_attempts": "3"}, "max_attempts must be at least 1, got '3'"),
    ({"queue": "defualt"}, r"'defualt' is not declared \(did you mean 'default'"),
    ({"priority": "high"}, r"no priority 'high', only normal: declare it with bq.queue"),
    ({"order": "a"}, r"is not ordered: declare it with bq.queue\('default', ordered=True\)"),
]


@pytest.mark.parametrize(("options", "sentence"), MISTAKES, ids=lambda each: str(each)[:30])
async def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], sentence: str) -> None:
    async with BrokerQ("shop", url="memory://") as bq:

        @bq.job()
        async def work() -> None: ...

        with pytest.raises(BrokerqError, match=sentence):
            await work.options(**options).publish()
        with pytest.raises(BrokerqError, match=sentence):
            await bq.publish("work", {}, **options)
        [stats] = await bq.queues.stats()
        assert (stats.ready, stats.delayed) == (0, 0)


def test_two_jobs_of_one_name_are_refused() -> None:
    bq = BrokerQ("shop", url="memory://")

    @bq.job()
    async def work() -> None: ...

    with pytest.raises(ConfigurationError, match="two jobs are named 'work': give one of them an"):
        bq.job()(lambda_named_work())


def lambda_named_work() -> Any:
    async def work() -> None: ...

    return work


def test_a_handler_whose_type_no_json_carries_is_refused() -> None:
    bq = BrokerQ("shop", url="memory://")

    async def work(handle: asyncio.Task[None]) -> None: ...

    with pytest.raises(
        ConfigurationError,
        match=r"parameter 'handle' has a type that cannot be a payload.*pass plain data",
    ):
        bq.job()(work)


async def test_a_url_that_nobody_knows_is_refused_at_the_first_use() -> None:
    bq = BrokerQ("shop", url="sqlit:///jobs.db")
    with pytest.raises(ConfigurationError, match="did you mean sqlite://"):
        await bq.open()
    await bq.close()


async def bury(bq: BrokerQ) -> str:
    """Return the id of a job that is dead, until its cause is gone."""

    @bq.job(retry=ONCE)
    async def fail() -> None:
        raise ValueError

    handle = await fail.publish()
    await bq.run_worker(burst=True)
    assert (await handle.status()).state == State.DEAD
    return handle.id


async def test_a_dead_letter_that_is_not_there_is_said_to_be_missing(bq: BrokerQ) -> None:
    [answer] = await bq.dead_letters.redrive(["no-such-job"], by="the test")
    assert isinstance(answer, NotRedriven)
    assert answer.missing
    assert answer.job_id == "no-such-job"
    with pytest.raises(NotFoundError, match="no dead letter of job no-such-job"):
        await bq.dead_letters.get("no-such-job")
    closed = await bq.dead_letters.close(
        ["no-such-job"], state=LetterState.DISCARDED, by="the test", note=None
    )
    assert list(closed) == [False]


async def test_a_letter_that_was_dealt_with_is_not_redriven(bq: BrokerQ) -> None:
    job_id = await bury(bq)
    await bq.dead_letters.close([job_id], state=LetterState.RESOLVED, by="alice", note="paid")
    [answer] = await bq.dead_letters.redrive([job_id], by="bob")
    assert isinstance(answer, NotRedriven)
    assert "resolved" in answer.why
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.dead) == (0, 0)


async def test_of_two_redrives_at_once_one_is_carried_out(place: Place) -> None:
    alice, bob = place.app(retry=RetryPolicy(max_attempts=1)), place.app()
    job_id = await bury(alice)
    [[one], [two]] = await asyncio.gather(
        alice.dead_letters.redrive([job_id], by="alice"),
        bob.dead_letters.redrive([job_id], by="bob"),
    )
    refused = [answer for answer in (one, two) if isinstance(answer, NotRedriven)]
    assert len(refused) == 1
    assert isinstance(one, Redrive) != isinstance(two, Redrive)
    assert refused[0].why
    report = await alice.run_worker(burst=True)
    assert report.outcomes == {"dead": 1}  # it ran once more, not twice
    assert (await alice.handle(job_id).status()).redrives == 1


async def test_a_job_that_comes_back_again_and_again_needs_force(bq: BrokerQ) -> None:
    job_id = await bury(bq)
    for _ in range(2):
        [answer] = await bq.dead_letters.redrive([job_id], by="the test")
        assert isinstance(answer, Redrive)
        await bq.run_worker(burst=True)
    [refusal] = await bq.dead_letters.redrive([job_id], by="the test")
    assert isinstance(refusal, NotRedriven)
    assert "force" in refusal.why
    [forced] = await bq.dead_letters.redrive([job_id], by="the test", force=True)
    assert isinstance(forced, Redrive)


async def test_only_an_ended_job_can_be_rerun(bq: BrokerQ) -> None:
    runs: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        runs.append(number)

    handle = await work.publish(5)
    with pytest.raises(RefusedError, match="only an ended job can be rerun"):
        await bq.jobs.rerun(handle.id)
    await bq.run_worker(burst=True)
    again = await bq.jobs.rerun(handle.id)
    await bq.run_worker(burst=True)
    assert runs == [5, 5]
    assert again.id != handle.id
    assert (await bq.jobs.status(again.id)).cause == handle.id
