"""When a worker may stop by itself because nothing is left."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import cast

from brokerq.broker import Broker, Inspectable
from brokerq.errors import CapabilityError
from brokerq.outbox import Outbox


class Until(Enum):
    """When a worker stops by itself."""

    STOPPED = "stopped"
    """Only when asked."""
    IDLE = "idle"
    """When nothing is ready; what is due later is left."""
    EMPTY = "empty"
    """When nothing is left at all: delayed jobs and other workers' are waited for."""


def inspectable(broker: Broker) -> Inspectable:
    """Return the broker as one that can count. Raises `CapabilityError`."""
    if not isinstance(broker, Inspectable):
        raise CapabilityError("this broker cannot tell whether anything is left in a queue")
    return cast("Inspectable", broker)


async def nothing_left(
    broker: Broker, outbox: Outbox | None, queues: Sequence[str], until: Until
) -> bool:
    """Ask the broker, and the outbox, whether a worker of these queues may stop."""
    # The outbox first: what a relay removes from it meanwhile is in the broker already.
    if outbox is not None:
        kept = await outbox.outbox()
        backlogs = map(kept.of, queues)
        if any(each.due if until is Until.IDLE else each.waiting for each in backlogs):
            return False
    stats = await inspectable(broker).stats(queues)
    if until is Until.IDLE:
        return not any(each.ready for each in stats)
    return not any(each.ready or each.in_flight or each.delayed for each in stats)
