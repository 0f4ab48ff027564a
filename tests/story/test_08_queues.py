"""Queues keep different work apart; weights and priorities say who goes first."""

from __future__ import annotations

import pytest

from brokerq import BrokerQ, Context, State
from brokerq.errors import UnknownQueueError


async def test_a_worker_serves_the_queues_it_is_told_to(bq: BrokerQ) -> None:
    @bq.job(queue="emails")
    async def send() -> None: ...

    @bq.job(queue="payments")
    async def charge() -> None: ...

    email, payment = await send.publish(), await charge.publish()
    await bq.run_worker({"payments": 1}, burst=True)
    assert (await payment.status()).state == State.SUCCEEDED
    assert (await email.status()).state == State.QUEUED


async def test_weights_share_a_worker(bq: BrokerQ) -> None:
    served: list[str] = []
    bq.queue("emails")

    @bq.job(queue="payments")
    async def work(ctx: Context) -> None:
        served.append(ctx.queue)

    for queue in ("emails", "payments"):
        await work.options(queue=queue).publish_many(work.arguments() for _ in range(300))
    await bq.run_worker({"payments": 3, "emails": 1}, concurrency=1, max_jobs=300)
    assert 130 <= served[100:].count("payments") <= 170  # three of four, once it is warm


async def test_urgent_jobs_go_first_and_starve_nobody(bq: BrokerQ) -> None:
    """Each level gets twice the share of the next."""
    served: list[str] = []
    bq.queue("payments", priorities=("high", "normal"))

    @bq.job(queue="payments")
    async def charge(who: str) -> None:
        served.append(who)

    await charge.publish_many(charge.arguments("anybody") for _ in range(300))
    urgent = charge.options(priority="high")
    await urgent.publish_many(charge.arguments("vip") for _ in range(300))
    await bq.run_worker(concurrency=1, max_jobs=300)
    assert 115 <= served[100:].count("vip") <= 150  # two of three


async def test_order_by_key(bq: BrokerQ) -> None:
    """One job of a key at a time, in the order of their publishes."""
    bq.queue("ledger", ordered=True)
    booked: list[int] = []

    @bq.job(queue="ledger")
    async def book(number: int) -> None:
        booked.append(number)

    for number in range(5):
        await book.options(order="account-7").publish(number)
    await bq.run_worker(concurrency=5, burst=True)
    assert booked == [0, 1, 2, 3, 4]


async def test_pausing(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    await bq.queues.pause("default", by="alice")
    await bq.run_worker(burst=True)
    assert (await handle.status()).state == State.QUEUED

    await bq.queues.resume("default")
    await bq.run_worker(burst=True)
    assert (await handle.status()).state == State.SUCCEEDED


async def test_a_queue_that_nobody_declared_is_refused(bq: BrokerQ) -> None:
    @bq.job(queue="payments")
    async def charge() -> None: ...

    with pytest.raises(UnknownQueueError, match="did you mean 'payments'"):
        await charge.options(queue="paymets").publish()
