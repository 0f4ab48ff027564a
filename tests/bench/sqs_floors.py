"""boto3 itself, which brokerq is measured beside, each case in a process of its own.

`python -m tests.bench.sqs_floors NAME URL ...`; URL is a server's. One thread, always ten at a
time, an id and the arguments of each job made and read; it does nothing else. boto3 is as it comes:
the settings that the adapter gives it would save it a fifth of its CPU.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from uuid_utils import uuid7

from tests.bench.meter import Figures, Meter
from tests.services.sqs import raw_client

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

BATCH = 10
ATTRIBUTE = "headers"


class Place:
    """A queue of one's own."""

    def __init__(self, url: str) -> None:
        self.sqs: SQSClient = raw_client(url)
        name = f"floor-{uuid.uuid4().hex[:8]}"
        self.queue = self.sqs.create_queue(QueueName=name)["QueueUrl"]

    def send(self, bodies: Sequence[str]) -> None:
        """Send up to ten."""
        answer = self.sqs.send_message_batch(
            QueueUrl=self.queue,
            Entries=[
                {
                    "Id": str(n),
                    "MessageBody": body,
                    "MessageAttributes": {
                        ATTRIBUTE: {"DataType": "String", "StringValue": _headers()}
                    },
                }
                for n, body in enumerate(bodies)
            ],
        )
        assert "Failed" not in answer

    def receive(self, wait: int = 0) -> Sequence[MessageTypeDef]:
        """Receive up to ten."""
        found = self.sqs.receive_message(
            QueueUrl=self.queue,
            MaxNumberOfMessages=BATCH,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
            WaitTimeSeconds=wait,
        )
        return found.get("Messages", ())

    def delete(self, messages: Sequence[MessageTypeDef]) -> None:
        """Delete up to ten."""
        answer = self.sqs.delete_message_batch(
            QueueUrl=self.queue,
            Entries=[
                {"Id": str(n), "ReceiptHandle": each.get("ReceiptHandle", "")}
                for n, each in enumerate(messages)
            ],
        )
        assert "Failed" not in answer

    def fill(self, count: int) -> None:
        """Send so many jobs."""
        for start in range(0, count, BATCH):
            self.send([json.dumps({"number": n}) for n in range(start, start + BATCH)])


def _headers() -> str:
    return json.dumps({"id": str(uuid7()), "job": "noop"})


def _read(message: MessageTypeDef) -> float:
    """Return the arguments, which needs headers and body to be read."""
    json.loads(message.get("MessageAttributes", {})[ATTRIBUTE].get("StringValue", ""))
    number: float = json.loads(message.get("Body", ""))["number"]
    return number


def publish_one(url: str, count: int) -> Figures:
    """Send one at a time."""
    place = Place(url)
    meter = Meter()
    for number in range(count):
        place.send([json.dumps({"number": number})])
    return meter.figures(count)


def publish_many(url: str, count: int) -> Figures:
    """Send ten at a time."""
    place = Place(url)
    meter = Meter()
    place.fill(count)
    return meter.figures(count)


def drain(url: str, count: int) -> Figures:
    """Receive and delete ten at a time."""
    place = Place(url)
    place.fill(count)
    meter = Meter()
    left = count
    while left:
        messages = place.receive()
        for message in messages:
            _read(message)
        place.delete(messages)
        left -= len(messages)
    return meter.figures(count)


def round_trip(url: str, count: int) -> Figures:
    """Measure from before a send to what a waiting poll has received, some ms apart."""
    place = Place(url)
    seen: list[float] = []

    def consume() -> None:
        consumer = Place(url)
        consumer.queue = place.queue
        while len(seen) < count:
            messages = consumer.receive(wait=20)
            seen.extend(time.monotonic() - _read(message) for message in messages)
            consumer.delete(messages)

    consuming = threading.Thread(target=consume)
    consuming.start()
    for _ in range(count):
        place.send([json.dumps({"number": time.monotonic()})])
        time.sleep(0.01)
    consuming.join()
    seen.sort()
    return {"p50_ms": seen[count // 2] * 1000, "p99_ms": seen[int(count * 0.99)] * 1000}


FLOORS: dict[str, Callable[[str, int], Figures]] = {
    floor.__name__: floor for floor in (publish_one, publish_many, drain, round_trip)
}

if __name__ == "__main__":
    case, endpoint, jobs = sys.argv[1:]
    print(json.dumps(FLOORS[case](endpoint, int(jobs))), flush=True)
