"""Which node is tried next where one hangs, and who asked does not wait until that is known."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

from brokerq_rabbitmq.connection import Connection
from brokerq_rabbitmq.options import Address

from tests.contract.rabbitmq_place import options
from tests.services.ports import HOST


@asynccontextmanager
async def silent_node() -> AsyncGenerator[Address]:
    """Yield the address of a node that lets connect, and says nothing."""
    with socket.create_server((HOST, 0)) as server:
        yield Address(host=HOST, port=server.getsockname()[1])


async def test_who_gives_up_before_a_node_has_failed_leaves_the_next_to_the_next() -> None:
    own = options()
    async with silent_node() as silent:
        nodes = replace(own, addresses=(silent, *own.addresses))
        connection = Connection(nodes, name="test", random=Random(1))
        connection.start()
        hasty = asyncio.ensure_future(connection.link())
        done, _ = await asyncio.wait([hasty], timeout=0.2)
        assert not done
        hasty.cancel()
        await asyncio.wait([hasty])
        async with asyncio.timeout(nodes.connect_timeout.total_seconds() / 2):
            first = await connection.link()
        assert first.alive
        first.hang_up()
        async with asyncio.timeout(nodes.connect_timeout.total_seconds() / 2):
            assert (await connection.link()).alive  # the node that worked, again
        await connection.close()
