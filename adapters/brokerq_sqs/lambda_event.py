"""What AWS Lambda calls a program with, and what it is told: events of an SQS queue. Pure.

The records are SQS's messages with other names for their parts; see
https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from brokerq.broker import Lane, QueueSpec
from brokerq.errors import ConfigurationError, UnknownQueueError
from brokerq_sqs.topology import queue_name

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef

_SOURCE = "aws:sqs"
_NEEDED = ("messageId", "receiptHandle", "body", "eventSourceARN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Messages of one queue, in the order in which Lambda has received them.

    Attributes:
        arn: The queue's.
        messages: As `ReceiveMessage` would have returned them, without binary attributes.
    """

    arn: str
    messages: Sequence[MessageTypeDef]


def read_event(event: object) -> Event:
    """Return what Lambda has called with. Raises `ConfigurationError` for any other event."""
    records = event.get("Records") if isinstance(event, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(records, list) or not records:
        raise _no_event("it has no records")
    found = [_read_record(record) for record in cast("list[object]", records)]
    arns = {arn for arn, _ in found}
    if len(arns) > 1:
        raise _no_event(f"its messages come from several queues: {', '.join(sorted(arns))}")
    return Event(arn=arns.pop(), messages=[message for _, message in found])


def _read_record(record: object) -> tuple[str, MessageTypeDef]:
    """Return the queue's ARN and the message."""
    if not isinstance(record, Mapping):
        raise _no_event("a record is no object")
    parts = cast("Mapping[str, Any]", record)
    if parts.get("eventSource") != _SOURCE:
        raise _no_event(f"a record comes from {parts.get('eventSource')!r}")
    for name in _NEEDED:
        if not isinstance(parts.get(name), str):
            raise _no_event(f"a record has no {name}")
    message: MessageTypeDef = {
        "MessageId": parts["messageId"],
        "ReceiptHandle": parts["receiptHandle"],
        "Body": parts["body"],
        "Attributes": parts.get("attributes") or {},
        "MessageAttributes": _read_attributes(parts.get("messageAttributes") or {}),
    }
    return parts["eventSourceARN"], message


def _read_attributes(
    attributes: Mapping[str, Mapping[str, Any]],
) -> dict[str, MessageAttributeValueOutputTypeDef]:
    return {
        name: {
            "DataType": str(attribute.get("dataType", "")),
            "StringValue": attribute.get("stringValue") or "",
        }
        for name, attribute in attributes.items()
    }


def _no_event(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"this is no event of an SQS queue: {why}. lambda_handler() is for an event source mapping "
        "of one of the app's queues"
    )


def find_lane(arn: str, queues: Sequence[QueueSpec], *, prefix: str) -> tuple[QueueSpec, Lane]:
    """Return the queue and level whose messages come from there. Raises `UnknownQueueError`."""
    wanted = arn.rpartition(":")[2]
    for spec in queues:
        for level in spec.levels:
            if queue_name(prefix, spec.name, level, ordered=spec.ordered) == wanted:
                return spec, Lane(queue=spec.name, level=level)
    names = ", ".join(spec.name for spec in queues) or "none"
    raise UnknownQueueError(
        f"the event comes from {wanted!r}, which is no queue of this app: it has the prefix "
        f"{prefix!r} and the queues {names}"
    )


def time_left(context: object) -> timedelta | None:
    """Return what Lambda's context says; None where there is none."""
    tell = getattr(context, "get_remaining_time_in_millis", None)
    return None if tell is None else timedelta(milliseconds=int(tell()))


def answer(event: Event, deleted: Collection[str]) -> dict[str, list[dict[str, str]]]:
    """Tell Lambda which messages stay in their queue; all others it deletes.

    `deleted`: receipt handles. An id that is not the event's would fail it as a whole.
    """
    kept = [each for each in event.messages if each.get("ReceiptHandle") not in deleted]
    return {"batchItemFailures": [{"itemIdentifier": each.get("MessageId", "")} for each in kept]}
