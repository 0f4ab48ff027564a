from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from brokerq import BrokerQ


@pytest.fixture
async def bq() -> AsyncIterator[BrokerQ]:
    """An app of this test's own. `async with` connects, and disconnects at the end."""
    async with BrokerQ("shop", url="memory://") as bq:
        yield bq
