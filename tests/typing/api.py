"""How the public types look to a program; checked by mypy and pyright, never run.

Each line that ends in two `ignore` comments is a mistake that both must find: where one of them
no longer does, its comment is unused and that is an error.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from brokerq import BrokerQ, Context, JobHandle
from brokerq.job import AnyJob, ContextJob, JobDecorator, PlainJob

Receipt = dict[str, str]


async def charge_card(ctx: Context, order_id: str, cents: int = 0) -> Receipt:
    return {"receipt": f"{order_id}-{cents}-{ctx.id}"}


def resize_image(ctx: Context, path: str, *, width: int) -> int:
    return len(path) + width + ctx.attempt


async def send_mail(to: str, subject: str = "") -> None:
    print(to, subject)  # noqa: T201 - never run


def add_up(first: int, second: int) -> int:
    return first + second


async def beat(ctx: Context) -> None:
    print(ctx.id)  # noqa: T201 - never run


def tick() -> int:
    return 1


async def a_job_keeps_the_types_of_its_handler(job: JobDecorator, ctx: Context) -> None:
    charge = job(charge_card)
    resize = job(resize_image)
    mail = job(send_mail)
    add = job(add_up)
    by_position: ContextJob[[str, int], Receipt, Coroutine[Any, Any, Receipt]] = charge
    assert_type(await by_position.publish("o-1", 1), JobHandle[Receipt])
    assert_type(await charge(ctx, "o-1", 1), Receipt)
    assert_type(resize(ctx, "a.png", width=3), int)
    await mail("ann", subject="hello")
    assert_type(add(1, second=2), int)
    assert_type(job(tick), PlainJob[[], int, int])
    assert_type(job(beat), ContextJob[[], None, Coroutine[Any, Any, None]])


def a_job_is_declared_by_a_decorator(bq: BrokerQ) -> None:
    @bq.job(queue="payments", timeout="20s", idempotency_key="name")
    async def greet(ctx: Context, name: str) -> str:
        return f"{ctx.id} {name}"

    @bq.job()
    def count(words: list[str]) -> int:
        return len(words)

    assert_type(greet.publish_sync("ann"), JobHandle[str])
    assert_type(count.publish_sync(words=["a"]), JobHandle[int])
    count.publish_sync(["a", 1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


async def the_payload_is_checked(job: JobDecorator) -> None:
    charge = job(charge_card)
    resize = job(resize_image)
    add = job(add_up)
    assert_type(await charge.publish(order_id="o-1", cents=1), JobHandle[Receipt])
    assert_type(await charge.publish("o-1"), JobHandle[Receipt])
    assert_type(await resize.publish("a.png", width=1), JobHandle[int])
    assert_type(add.publish_sync(1, 2), JobHandle[int])
    assert_type(await (await charge.publish("o-1")).result(), Receipt)
    assert_type(await job(tick).publish(), JobHandle[int])
    assert_type(await job(beat).publish(), JobHandle[None])

    await charge.publish()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await charge.publish(order_id=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await charge.publish("o", cent=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await charge.publish("o", 1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await resize.publish("a", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    add.publish_sync("1", 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job(tick).publish(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def the_context_is_no_part_of_the_payload(job: JobDecorator, ctx: Context) -> None:
    charge = job(charge_card)
    await charge.publish(ctx, "o-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await charge("o-1", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await charge(ctx, order_id=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await job(send_mail)(ctx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def options_change_nothing_about_the_payload(job: JobDecorator) -> None:
    charge = job(charge_card)
    later = charge.options(delay="10m", priority="high", tags=["vip"], headers={"trace": "1"})
    assert_type(later.publish_sync("o-1", 1), JobHandle[Receipt])
    assert_type(await later.publish("o-1", cents=1), JobHandle[Receipt])
    charge.options(at=datetime(2026, 1, 1, tzinfo=UTC), deadline=timedelta(hours=1), key="k")
    await later.publish(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    charge.options(delay=10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    charge.options(delays="1s")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def many_payloads_are_checked_one_by_one(job: JobDecorator) -> None:
    charge = job(charge_card)
    add = job(add_up)
    orders = [charge.arguments(f"o-{n}", cents=n) for n in range(3)]
    assert_type(await charge.publish_many(orders), list[JobHandle[Receipt]])
    assert_type(add.publish_many_sync(add.arguments(n, n) for n in range(3)), list[JobHandle[int]])
    charge.arguments(order=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await add.publish_many(orders)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def any_job_is_a_job(job: JobDecorator) -> list[AnyJob]:
    return [job(charge_card), job(resize_image), job(send_mail), job(add_up), job(tick)]
