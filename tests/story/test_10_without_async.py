"""Programs that are not asynchronous use the same app."""

from __future__ import annotations

import asyncio

from brokerq import BrokerQ


def test_publish_and_ask_from_plain_code() -> None:
    bq = BrokerQ("shop", url="memory://")

    @bq.job()
    def add(first: int, second: int) -> int:
        return first + second

    handle = add.publish_sync(2, second=3)  # opens the connections by itself
    asyncio.run(bq.run_worker(burst=True))  # elsewhere, usually: `brokerq worker shop:bq`
    assert handle.result_sync(timeout="5s") == 5
    assert handle.status_sync().attempts == 1
    bq.close_sync()
