"""Lambda's events are read as what the queue would have delivered, and answered one by one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from brokerq_sqs.lambda_event import answer, find_lane, read_event, time_left
from brokerq_sqs.wire import pack, unpack

from brokerq.broker import Lane, QueueSpec
from brokerq.errors import ConfigurationError, UnknownQueueError
from brokerq.message import Message
from tests.services.event_source import Context, as_record

ARN = "arn:aws:sqs:us-east-2:123456789012:shop__mail"
STANDARD: dict[str, Any] = {
    "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
    "body": "Test message.",
    "attributes": {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    },
    "messageAttributes": {
        "bq-job": {
            "stringValue": "greet",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        },
        "size": {
            "stringValue": "123",
            "binaryValue": None,
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "Number",
        },
        "picture": {
            "binaryValue": "MTEwMA==",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "Binary",
        },
    },
    "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "eventSource": "aws:sqs",
    "eventSourceARN": ARN,
    "awsRegion": "us-east-2",
}
FIFO: dict[str, Any] = {
    "messageId": "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5",
    "receiptHandle": "AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw",
    "body": "Test message.",
    "attributes": {
        "ApproximateReceiveCount": "2",
        "SentTimestamp": "1573251510774",
        "SequenceNumber": "18849496460467696128",
        "MessageGroupId": "1",
        "SenderId": "AIDAIO23YVJENQZJOL4VO",
        "MessageDeduplicationId": "1",
        "ApproximateFirstReceiveTimestamp": "1573251510774",
    },
    "messageAttributes": {},
    "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "eventSource": "aws:sqs",
    "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:fifo.fifo",
    "awsRegion": "us-east-2",
}


def test_a_standard_queue_s_event_is_read() -> None:
    event = read_event({"Records": [STANDARD]})
    [raw] = event.messages
    message, message_id = unpack(raw)
    assert event.arn == ARN
    assert message == Message(headers={"bq-job": "greet", "size": "123"}, body=b"Test message.")
    assert message_id == raw.get("MessageId") == STANDARD["messageId"]
    assert raw.get("ReceiptHandle") == STANDARD["receiptHandle"]


def test_an_ordered_queue_s_event_says_group_and_count() -> None:
    [raw] = read_event({"Records": [FIFO]}).messages
    said = raw.get("Attributes", {})
    assert said.get("MessageGroupId") == "1"
    assert said.get("ApproximateReceiveCount") == "2"


def test_what_brokerq_has_sent_comes_through_lambda_as_it_was() -> None:
    sent = Message(headers={"bq-id": "j", "bq-job": "ähm", "x": "\x00"}, body=b"\xff\x00")
    packed = pack(sent, "theirs")
    record = as_record(
        {
            "MessageId": "m",
            "ReceiptHandle": "r",
            "Body": packed.body,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": str(value.get("StringValue"))}
                for name, value in packed.attributes.items()
            },
        },
        ARN,
    )
    [raw] = read_event({"Records": [record]}).messages
    assert unpack(raw) == (sent, "theirs")


@pytest.mark.parametrize("part", ["attributes", "messageAttributes"])
@pytest.mark.parametrize("value", [None, {}])
def test_a_record_without_attributes_is_read(part: str, value: object) -> None:
    assert len(read_event({"Records": [STANDARD | {part: value}]}).messages) == 1


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (None, "no records"),
        ([], "no records"),
        ({}, "no records"),
        ({"Records": []}, "no records"),
        ({"Records": "many"}, "no records"),
        ({"Records": [7]}, "no object"),
        ({"Records": [STANDARD | {"eventSource": "aws:s3"}]}, "comes from 'aws:s3'"),
        ({"Records": [STANDARD | {"messageId": None}]}, "no messageId"),
        ({"Records": [STANDARD | {"receiptHandle": 7}]}, "no receiptHandle"),
        ({"Records": [{"eventSource": "aws:sqs", "messageId": "m"}]}, "no receiptHandle"),
        ({"Records": [STANDARD, FIFO]}, "several queues"),
    ],
)
def test_what_is_no_event_of_a_queue_is_refused(event: object, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read_event(event)


@pytest.mark.parametrize(
    ("name", "lane"),
    [
        ("shop__mail", Lane(queue="mail")),
        ("shop__mail__high", Lane(queue="mail", level="high")),
        ("shop__orders.fifo", Lane(queue="orders")),
    ],
)
def test_the_queue_is_found_by_its_address(name: str, lane: Lane) -> None:
    queues = [
        QueueSpec(name="orders", ordered=True),
        QueueSpec(name="mail", levels=("high", "normal")),
    ]
    spec, found = find_lane(f"arn:aws:sqs:us-east-1:1:{name}", queues, prefix="shop")
    assert found == lane
    assert spec.name == lane.queue


@pytest.mark.parametrize(
    "name", ["mail", "other__mail", "shop__mail-dead", "shop__mail.fifo", "shop__mail__low", ""]
)
def test_an_event_of_another_queue_is_refused(name: str) -> None:
    with pytest.raises(UnknownQueueError, match="no queue of this app"):
        find_lane(f"arn:aws:sqs:us-east-1:1:{name}", [QueueSpec(name="mail")], prefix="shop")


def test_the_answer_names_what_stays_and_nothing_else() -> None:
    records = [STANDARD | {"messageId": f"m{n}", "receiptHandle": f"r{n}"} for n in range(3)]
    event = read_event({"Records": records})
    assert answer(event, {"r0", "r2", "another's"}) == {
        "batchItemFailures": [{"itemIdentifier": "m1"}]
    }
    assert answer(event, {"r0", "r1", "r2"}) == {"batchItemFailures": []}
    assert len(answer(event, ())["batchItemFailures"]) == 3


def test_the_time_is_what_the_context_says() -> None:
    left = time_left(Context(60))
    assert left is not None
    assert timedelta(seconds=59) < left <= timedelta(seconds=60)
    assert time_left(None) is None
