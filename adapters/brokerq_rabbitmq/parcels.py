"""Which exchange and key a message goes to, and what follows from a verdict. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from brokerq.broker import Ack, Dead, Lane, Release, Reschedule, Verdict
from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq_rabbitmq import ladder
from brokerq_rabbitmq.publisher import Parcel
from brokerq_rabbitmq.topology import Names
from brokerq_rabbitmq.wire import Received, read_message, write_headers


def to_lane(
    names: Names, lane: Lane, message: Message, *, message_id: str | None, ticks: int = 0
) -> Parcel:
    """Return the message on its way to a lane, at once or by way of the ladder."""
    headers = write_headers(message)
    if ticks == 0:
        return Parcel("", names.lane(lane.queue, lane.level), message_id, headers, message.body)
    return Parcel(
        names.step(ladder.entry_rung(ticks)),
        ladder.routing_key(ticks, lane.queue, lane.level),
        message_id,
        headers,
        message.body,
    )


def copy(names: Names, lane: Lane, received: Received) -> Parcel:
    """Return the same message anew, whose deliveries the broker has not counted."""
    return to_lane(names, lane, read_message(received), message_id=received.id)


def follow_up(
    names: Names, lane: Lane, received: Received, verdict: Verdict, now: datetime
) -> Parcel | None:
    """Return what must be confirmed before the original is removed; None: nothing."""
    match verdict:
        case Dead(message=message):
            key = names.dead(lane.queue)
            return Parcel("", key, received.id, write_headers(message), message.body)
        case Reschedule(delay=delay, message=message) if message is not None:
            return _delayed(names, lane, message, delay=delay, message_id=received.id, now=now)
        case Release(delay=delay) | Reschedule(delay=delay) if delay > ZERO:
            return _delayed(
                names, lane, read_message(received), delay=delay, message_id=received.id, now=now
            )
        case Ack() | Release() | Reschedule():
            return None


def _delayed(
    names: Names,
    lane: Lane,
    message: Message,
    *,
    delay: timedelta,
    message_id: str | None,
    now: datetime,
) -> Parcel:
    if delay > ladder.LONGEST:  # it comes early, and the core sends it on
        headers = {**message.headers, "bq-not-before": (now + delay).isoformat()}
        message = Message(headers=headers, body=message.body)
    return to_lane(names, lane, message, message_id=message_id, ticks=ladder.rough_ticks(delay))
