"""What RabbitMQ itself counts as in flight, by its management API: asked only if the URL names it.

AMQP tells what is ready and nothing of what consumers hold. The API's totals are those of the last
tick of a quorum queue, 5 s by default (`quorum_tick_interval`; measured on 3.10.8 and 4.3.6). Its
figures for a single queue pass through a second interval, and were up to 9 s old there.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import Collection
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from re import escape
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from brokerq.errors import BrokerqError, ConfigurationError, ConnectionLostError
from brokerq_rabbitmq.options import ManagementAddress, Options

logger = logging.getLogger("brokerq.rabbitmq")

_PAGE = 500
"""Queues: the most that the API puts on a page."""
_COUNT = "messages_unacknowledged"


class Reply(NamedTuple):
    """What an HTTP server answered."""

    status: int
    body: bytes


class Management:
    """Asks one node's API for all of the cluster; a connection for each question."""

    def __init__(self, address: ManagementAddress, options: Options) -> None:
        self._address = address
        self._options = options
        self._is_away = False

    async def unacknowledged(self, lanes: Collection[str], *, prefix: str) -> int:
        """Return how many messages of these queues are delivered and not settled, to anybody.

        The names of all begin with `prefix`, those of less than 500 queues do.

        Raises `ConnectionLostError` when the API cannot be reached or is missing one of the queues,
        and `ConfigurationError` when it does not let us in or is something else.
        """
        try:
            reply = await self._ask(_path(self._options.vhost, prefix))
            total = read_total(self._address, self._options.vhost, reply, lanes)
        except ConnectionLostError as exc:
            if not self._is_away:  # a worker that asks whether it may stop asks again and again
                logger.warning("%s", exc)
            self._is_away = True
            raise
        self._is_away = False
        return total

    async def _ask(self, path: str) -> Reply:
        try:
            async with asyncio.timeout(self._options.connect_timeout.total_seconds()):
                return await asyncio.to_thread(self._get, path)
        except (OSError, HTTPException) as exc:  # TimeoutError is an OSError
            raise _unreachable(self._address, str(exc) or type(exc).__name__) from exc

    def _get(self, path: str) -> Reply:
        address = self._address
        credentials = b64encode(f"{address.user}:{address.password}".encode()).decode()
        connection = self._connect()
        try:
            headers = {"Authorization": f"Basic {credentials}", "Accept": "application/json"}
            connection.request("GET", address.path + path, headers=headers)
            answer = connection.getresponse()
            return Reply(status=answer.status, body=answer.read())
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        address, timeout = self._address, self._options.connect_timeout.total_seconds()
        if not address.is_secure:
            return HTTPConnection(address.host, address.port, timeout=timeout)
        tls = self._options.tls  # None: the system's list of who may sign
        return HTTPSConnection(address.host, address.port, timeout=timeout, context=tls)


def _path(vhost: str, prefix: str) -> str:
    query = urlencode(
        {
            "disable_stats": "true",  # what is left is cheap for the server, and younger
            "enable_queue_totals": "true",
            "columns": f"name,{_COUNT}",
            "name": f"^{escape(prefix)}",
            "use_regex": "true",
            "page": "1",
            "page_size": str(_PAGE),
        }
    )
    return f"/api/queues/{quote(vhost, safe='')}?{query}"


def read_total(address: ManagementAddress, vhost: str, reply: Reply, lanes: Collection[str]) -> int:
    """Return what the answer says that consumers hold of all these queues. Pure.

    Raises what `Management.unacknowledged` does. A queue is missing while its node is down, or
    where the API is another cluster's.
    """
    if reply.status != HTTPStatus.OK:
        raise _refused(address, vhost, reply.status)
    try:
        page: Any = json.loads(reply.body)
        counts = {str(each["name"]): int(each[_COUNT]) for each in page["items"]}
    except (ValueError, TypeError, LookupError) as exc:
        raise _something_else(address) from exc
    missing = [lane for lane in lanes if lane not in counts]
    if missing:
        raise ConnectionLostError(
            f"the management API at {address} tells nothing of the queue {missing[0]}: its node "
            "is down, or the API is that of another cluster"
        )
    return sum(counts[lane] for lane in lanes)


def _unreachable(address: ManagementAddress, why: str) -> ConnectionLostError:
    return ConnectionLostError(
        f"RabbitMQ's management API cannot be reached at {address}: {why}; is the plugin "
        "rabbitmq_management enabled there?"
    )


def _something_else(address: ManagementAddress) -> ConfigurationError:
    return ConfigurationError(
        f"what answers at {address} is not the management API of RabbitMQ 3.10 or newer"
    )


def _refused(address: ManagementAddress, vhost: str, status: int) -> BrokerqError:
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return ConfigurationError(
                f"the management API at {address} does not let user {address.user!r} in "
                f"({status}): name one with the right password, the tag 'management' or "
                f"'monitoring', and rights in the virtual host {vhost!r}"
            )
        case HTTPStatus.NOT_FOUND:
            return ConfigurationError(
                f"the management API at {address} knows no virtual host {vhost!r} that user "
                f"{address.user!r} may see ({status})"
            )
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return _unreachable(address, f"it answers {status}")
        case _:
            return _something_else(address)
