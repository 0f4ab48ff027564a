"""A job can wait for its time, and give up after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from brokerq import BrokerQ, LetterFilter, State


async def test_after_a_delay(bq: BrokerQ) -> None:
    ran_at: list[datetime] = []

    @bq.job()
    async def remind() -> None:
        ran_at.append(datetime.now(UTC))

    published_at = datetime.now(UTC)
    handle = await remind.options(delay="50ms").publish()
    assert (await handle.status()).state == State.SCHEDULED
    await bq.run_worker(burst=True)  # waits for it
    assert ran_at[0] - published_at >= timedelta(milliseconds=50)  # never early


async def test_at_a_point_in_time(bq: BrokerQ) -> None:
    ran_at: list[datetime] = []

    @bq.job()
    async def remind() -> None:
        ran_at.append(datetime.now(UTC))

    noon = datetime.now(UTC) + timedelta(milliseconds=50)
    await remind.options(at=noon).publish()
    await bq.run_worker(burst=True)
    assert ran_at[0] >= noon


async def test_not_after_its_deadline(bq: BrokerQ) -> None:
    @bq.job()
    async def greet() -> None:
        raise AssertionError("too late to be polite")

    yesterday = datetime.now(UTC) - timedelta(days=1)
    handle = await greet.options(deadline=yesterday).publish()
    await bq.run_worker(burst=True)
    assert (await handle.status()).state == State.EXPIRED
    [letter] = await bq.dead_letters.search(LetterFilter(reason="expired"), limit=1)
    assert letter.job_id == handle.id
