"""Publishing messages that are safe elsewhere until the broker has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from brokerq.broker import Broker, Outgoing
from brokerq.errors import (
    OUTAGE,
    BodyTooLargeError,
    BrokerqError,
    CapabilityError,
    PublishError,
)


class Refusal(NamedTuple):
    """Why the broker did not take a message.

    Attributes:
        unknown: It may have taken it all the same; sending it again under the same id is safe.
    """

    error: BrokerqError
    unknown: bool

    @property
    def is_outage(self) -> bool:
        """Whether the broker takes nothing now; else the message is not to its liking."""
        return isinstance(self.error.__cause__, OUTAGE)


async def send(broker: Broker, messages: Sequence[Outgoing]) -> dict[int, Refusal]:
    """Publish; return what was not taken, by position."""
    try:
        await broker.publish(messages)
    except PublishError as exc:
        failed = dict.fromkeys(exc.failed, Refusal(exc, unknown=False))
        return failed | dict.fromkeys(exc.unknown, Refusal(exc, unknown=True))
    except (BodyTooLargeError, CapabilityError) as exc:  # nothing was sent, because of one of them
        if len(messages) == 1:
            return {0: Refusal(exc, unknown=False)}
        apart = [await send(broker, [message]) for message in messages]
        return {place: each[0] for place, each in enumerate(apart) if each}
    return {}
