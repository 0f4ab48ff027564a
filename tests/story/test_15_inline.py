"""In tests, and at the start of a roll-out, publishing can run the job at once."""

from __future__ import annotations

import pytest

from brokerq import BrokerQ


async def test_inline_mode_needs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERQ_MODE", "inline")
    bq = BrokerQ("shop", url="memory://")

    @bq.job()
    async def add(first: int, second: int) -> int:
        return first + second

    handle = await add.publish(2, second=3)
    assert await handle.result() == 5


async def test_what_the_handler_raises_is_raised_where_it_was_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROKERQ_MODE", "inline")
    bq = BrokerQ("shop", url="memory://")

    @bq.job()
    async def fail() -> None:
        raise ValueError("here and now")

    with pytest.raises(ValueError, match="here and now"):
        await fail.publish()
