"""A double of AWS Lambda's event source mapping: it polls a queue, calls the handler and deletes.

As Lambda does it: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html.
An answer that names an unknown message, or a handler that raises, leaves everything in the queue.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.services import sqs

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

Handler = Callable[[Any, Any], Any]


class Context:
    """What Lambda tells the function about the call.

    The part of it that matters here: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._end - time.monotonic()) * 1000))


def as_record(message: MessageTypeDef, arn: str) -> dict[str, Any]:
    """Return a message as Lambda passes it on."""
    attributes: dict[str, dict[str, Any]] = {}
    for name, value in (message.get("MessageAttributes") or {}).items():
        attributes[name] = {
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": value.get("DataType"),
        }
        if "StringValue" in value:
            attributes[name]["stringValue"] = value["StringValue"]
        if "BinaryValue" in value:
            attributes[name]["binaryValue"] = b64encode(value["BinaryValue"]).decode()
    return {
        "messageId": message.get("MessageId"),
        "receiptHandle": message.get("ReceiptHandle"),
        "body": message.get("Body"),
        "attributes": dict(message.get("Attributes") or {}),
        "messageAttributes": attributes,
        "md5OfMessageAttributes": message.get("MD5OfMessageAttributes"),
        "md5OfBody": message.get("MD5OfBody"),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


class EventSource:
    """A mapping of one queue to one function, with `ReportBatchItemFailures`."""

    def __init__(self, endpoint: str, queue: str) -> None:
        self._sqs = sqs.raw_client(endpoint)
        self.url = self._sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        found = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.arn = found["Attributes"]["QueueArn"]

    def close(self) -> None:
        self._sqs.close()

    def poll(self, *, wait: int = 0) -> dict[str, Any] | None:
        """Return an event of up to ten messages; None: there are none."""
        found = self._sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        messages = found.get("Messages", [])
        return {"Records": [as_record(each, self.arn) for each in messages]} if messages else None

    def gather(self, count: int) -> dict[str, Any]:
        """Poll until so many messages are here; return one event of them all."""
        records: list[dict[str, Any]] = []
        until = time.monotonic() + sqs.PATIENCE
        while len(records) < count:
            assert time.monotonic() < until, f"{len(records)} of {count} messages are here"
            event = self.poll(wait=1)
            records += event["Records"] if event else []
        return {"Records": records}

    def invoke(self, handler: Handler, event: Mapping[str, Any], seconds: float) -> list[str]:
        """Call the handler, delete what it does not name; return what it names."""
        answer = handler(event, Context(seconds))
        failed = [each["itemIdentifier"] for each in answer["batchItemFailures"]]
        handles = {each["messageId"]: each["receiptHandle"] for each in event["Records"]}
        assert set(failed) <= handles.keys(), "Lambda would take the whole batch for failed"
        for message_id, handle in handles.items():
            if message_id not in failed:
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=handle)
        return failed

    def run(self, handler: Handler, *, seconds: float = 30, wait: int = 0) -> Sequence[str] | None:
        """Poll once, and call the handler if there is something; return the failures."""
        event = self.poll(wait=wait)
        return None if event is None else self.invoke(handler, event, seconds)
