"""A button that is pressed twice charges once."""

from __future__ import annotations

import pytest

from brokerq import BrokerQ, Context
from brokerq.errors import KeyConflictError


async def test_publishing_the_same_thing_twice_makes_one_job(bq: BrokerQ) -> None:
    charged: list[str] = []

    @bq.job(idempotency_key="order_id")  # the name of a parameter
    async def charge(order_id: str, cents: int) -> None:
        charged.append(order_id)

    first = await charge.publish("o-17", cents=4200)
    second = await charge.publish("o-17", cents=4200)
    await bq.run_worker(burst=True)
    third = await charge.publish("o-17", cents=4200)  # success keeps the key for days

    assert first.id == second.id == third.id
    assert (first.duplicate, second.duplicate, third.duplicate) == (False, True, True)
    assert charged == ["o-17"]


async def test_something_else_under_the_same_key_is_a_mistake(bq: BrokerQ) -> None:
    @bq.job(idempotency_key="order_id")
    async def charge(order_id: str, cents: int) -> None: ...

    first = await charge.publish("o-17", cents=4200)
    with pytest.raises(KeyConflictError) as conflict:
        await charge.publish("o-17", cents=1)
    assert conflict.value.job_id == first.id


async def test_a_key_can_be_given_for_one_publish(bq: BrokerQ) -> None:
    @bq.job()
    async def import_file(path: str) -> None: ...

    once = import_file.options(key="2030-01-31")
    assert (await once.publish("a.csv")).id == (await once.publish("a.csv")).id


async def test_the_same_key_reaches_the_other_side_at_every_attempt(bq: BrokerQ) -> None:
    """A worker may die between doing something and recording it: let the other side absorb it."""
    sent: list[str] = []

    @bq.job(idempotency_key="order_id")
    async def charge(ctx: Context, order_id: str) -> None:
        sent.append(ctx.effect_key)

    await charge.publish("o-17")
    await bq.run_worker(burst=True)
    assert sent == ["charge:o-17"]
