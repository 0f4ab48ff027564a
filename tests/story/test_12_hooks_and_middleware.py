"""Listen to what happens, or stand around every handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from brokerq import BrokerQ, Context, Event, Letter, Reject


async def test_hooks_hear_of_every_step(bq: BrokerQ) -> None:
    heard: list[str] = []

    @bq.on("succeeded")
    def count(event: Event) -> None:
        heard.append(f"{event.job} {event.name}")

    @bq.job()
    async def work() -> None: ...

    await work.publish()
    await bq.run_worker(burst=True)
    assert heard == ["work succeeded"]


async def test_on_dead_is_told_when_the_letter_is_safe(bq: BrokerQ) -> None:
    alarms: list[str] = []

    async def alarm(letter: Letter) -> None:
        alarms.append(f"{letter.job}: {letter.error_message}")

    @bq.job(on_dead=[alarm])
    async def charge() -> None:
        raise Reject("no such customer")

    await charge.publish()
    await bq.run_worker(burst=True)
    assert alarms == ["charge: no such customer"]


async def test_middleware_stands_around_every_handler(bq: BrokerQ) -> None:
    @bq.use
    async def in_brackets(_ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return f"({await call_next()})"

    @bq.job()
    async def work() -> str:
        return "done"

    handle = await work.publish()
    await bq.run_worker(burst=True)
    assert await handle.result() == "(done)"
