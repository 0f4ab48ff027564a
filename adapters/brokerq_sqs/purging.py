"""Removes what is ready or delayed from a queue, and leaves what is in flight."""

from __future__ import annotations

import logging

from brokerq.clock import Clock
from brokerq_sqs import topology
from brokerq_sqs.calls import Calls
from brokerq_sqs.client import Client
from brokerq_sqs.deployment import Deployment, Place
from brokerq_sqs.persistence import Persistence
from brokerq_sqs.wire import BATCH, LONGEST_DELAY

logger = logging.getLogger("brokerq.sqs")
_HOLD = 30
_WAIT = 1


class Purge:
    """One purge; what is published after it began may be removed, too."""

    def __init__(
        self,
        client: Client,
        calls: Calls,
        persistence: Persistence,
        deployment: Deployment,
        clock: Clock,
    ) -> None:
        self._client = client
        self._calls = calls
        self._persistence = persistence
        self._deployment = deployment
        self._clock = clock

    async def run(self, place: Place) -> int:
        """Return how many messages were removed from one queue."""
        until = self._clock.monotonic() + LONGEST_DELAY.total_seconds()
        removed = 0
        told = False
        while True:
            is_over = self._clock.monotonic() >= until
            # Asked first: what comes up in between is found by the poll.
            delayed = topology.delayed(await self._deployment.attributes(place))
            step = await self._remove_ready(place)
            removed += step
            if not step and (is_over or not delayed):
                return removed
            if delayed and not told:
                logger.info("waiting for %d messages of %s to be due", delayed, place.name)
                told = True

    async def _remove_ready(self, place: Place) -> int:
        found = await self._persistence.call(
            lambda: self._client.receive(place.url, limit=BATCH, visibility=_HOLD, wait=_WAIT)
        )
        handles = [raw.get("ReceiptHandle", "") for raw in found]
        outcomes = await self._calls.delete(place.url, handles)
        return sum(failure is None for failure in outcomes)
