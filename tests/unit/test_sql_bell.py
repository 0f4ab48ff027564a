"""The bell that ends a consumer's wait; a wait that does not end fails by its timeout."""

import asyncio

import pytest

from brokerq.sql.bell import LaneBell

LONG = 3_600.0
SOON = 0.05


@pytest.fixture
def bell() -> LaneBell:
    return LaneBell(slack=0.001)


async def seconds_of(waiting: asyncio.Task[None]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(30):
        await waiting
    return loop.time() - began


async def begun(bell: LaneBell, timeout: float) -> asyncio.Task[None]:
    """Return a wait that is under way."""
    waiting = asyncio.create_task(bell.wait(timeout))
    await asyncio.sleep(0)
    return waiting


async def test_a_wait_ends_after_its_time_and_not_earlier(bell: LaneBell) -> None:
    assert await seconds_of(await begun(bell, SOON)) >= SOON - 0.01


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_ringing_ends_a_wait_at_once(bell: LaneBell, seconds: float) -> None:
    waiting = await begun(bell, LONG)
    bell.ring(seconds)
    await seconds_of(waiting)


async def test_a_wait_ends_when_the_first_is_due_of_what_was_rung(bell: LaneBell) -> None:
    waiting = await begun(bell, LONG)
    for seconds in (LONG / 2, SOON, LONG / 3):
        bell.ring(seconds)
    assert await seconds_of(waiting) >= SOON - 0.01


async def test_what_was_rung_before_the_wait_counts(bell: LaneBell) -> None:
    bell.ring(0)
    await seconds_of(await begun(bell, LONG))


async def test_what_was_cleared_is_forgotten(bell: LaneBell) -> None:
    bell.ring(0)
    bell.clear()
    waiting = await begun(bell, LONG)
    assert not waiting.done()
    bell.ring(0)
    await seconds_of(waiting)


async def test_a_wait_that_is_cancelled_leaves_a_bell_that_works(bell: LaneBell) -> None:
    waiting = await begun(bell, LONG)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bell.ring(0)
    await seconds_of(await begun(bell, LONG))
