"""What is published: checked whole before anything is sent, then sorted by queue. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from brokerq.broker import Lane, Outgoing
from brokerq.duration import ZERO
from brokerq.errors import CapabilityError, PublishError
from brokerq_sqs.client import Failure
from brokerq_sqs.deployment import Place
from brokerq_sqs.wire import LONGEST_DELAY, Entry, as_id, check_size, entry, pack, seconds


@dataclass(slots=True)
class Shipment:
    """What goes to one queue: entries with their positions in what was published."""

    place: Place
    positions: list[int] = field(default_factory=list[int])
    entries: list[Entry] = field(default_factory=list[Entry])


def prepare(messages: Sequence[Outgoing], places: Mapping[Lane, Place]) -> list[Shipment]:
    """Sort the messages by queue, leaving out those of a lane that is not there.

    Raises `BodyTooLargeError` or `CapabilityError`.
    """
    shipments: dict[Lane, Shipment] = {}
    for position, outgoing in enumerate(messages):
        place = places.get(outgoing.lane)
        _check(outgoing, place)
        packed = pack(outgoing.message, outgoing.id)
        if place is None:
            continue
        key = outgoing.order if place.ordered else outgoing.tenant
        shipment = shipments.setdefault(outgoing.lane, Shipment(place))
        shipment.positions.append(position)
        shipment.entries.append(
            entry(
                packed,
                outgoing.id,
                outgoing.message,
                ordered=place.ordered,
                group=None if key is None else as_id(key),
                delay=seconds(outgoing.delay),
            )
        )
    return list(shipments.values())


def _check(outgoing: Outgoing, place: Place | None) -> None:
    check_size(outgoing.message, outgoing.id)
    if outgoing.delay > LONGEST_DELAY:
        raise CapabilityError(
            f"message {outgoing.id} has a delay of {outgoing.delay}, sqs:// can delay by "
            f"{LONGEST_DELAY} at most"
        )
    if place is None:
        return
    if outgoing.order is not None and not place.ordered:
        raise CapabilityError(
            f"message {outgoing.id} has an ordering key, and queue {outgoing.lane.queue!r} is not "
            "declared as ordered"
        )
    if place.ordered and outgoing.delay > ZERO:
        raise CapabilityError(
            f"message {outgoing.id} has a delay, and SQS cannot delay a message of an ordered "
            f"queue, which {outgoing.lane.queue!r} is"
        )


def report(
    messages: Sequence[Outgoing], missing: Sequence[int], failures: Mapping[int, Failure]
) -> PublishError | None:
    """Return the error that names what was not taken; None: all was."""
    if not missing and not failures:
        return None
    unknown = [position for position, failure in failures.items() if failure.maybe_done]
    failed = [position for position, failure in failures.items() if not failure.maybe_done]
    reasons: dict[str, None] = {}
    for position in missing:
        lane = messages[position].lane
        reasons[f"queue {lane.queue!r} with level {lane.level!r} is not declared"] = None
    reasons.update(dict.fromkeys(failure.reason for failure in failures.values()))
    return PublishError(
        f"{len(missing) + len(failures)} of {len(messages)} messages were not confirmed: "
        + "; ".join(reasons),
        failed=sorted([*missing, *failed]),
        unknown=sorted(unknown),
    )
