"""The double does to calls what it was told, and to no others."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services import sqs
from tests.services.ports import HOST
from tests.services.sqs_double import SqsDouble
from tests.services.sqs_faults import (
    CHANGE,
    DELETE,
    RECEIVE,
    SEND,
    Fault,
    broken,
    broken_after,
    cut,
    cut_after,
    cut_within,
    expired,
    ignored,
    late,
    partly,
    partly_told,
    silent,
    throttled,
)

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)
LOST = (http.client.RemoteDisconnected, ConnectionError, http.client.IncompleteRead)


class Caller:
    """Calls one queue, each time on a new connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = self.call("CreateQueue", QueueName=f"double-{time.monotonic_ns()}")["QueueUrl"]

    def call(self, action: str, **request: Any) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        head = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request,"
            " SignedHeaders=host, Signature=0",
        }
        try:
            connection.request("POST", "/", json.dumps(request).encode(), head)
            answer = connection.getresponse()
            return {"status": answer.status, **json.loads(answer.read() or b"{}")}
        finally:
            connection.close()

    def send(self, *bodies: str) -> dict[str, Any]:
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        return self.call(SEND, QueueUrl=self.url, Entries=entries)

    def receive(self) -> list[dict[str, Any]]:
        answer = self.call(RECEIVE, QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=30)
        found: list[dict[str, Any]] = answer.get("Messages") or []
        return found

    def delete(self, *messages: dict[str, Any]) -> dict[str, Any]:
        entries = [
            {"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]}
            for n, each in enumerate(messages)
        ]
        return self.call(DELETE, QueueUrl=self.url, Entries=entries)

    def release(self, message: dict[str, Any]) -> dict[str, Any]:
        entry = {"Id": "0", "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
        return self.call(CHANGE, QueueUrl=self.url, Entries=[entry])


@pytest.fixture
def double() -> Iterator[SqsDouble]:
    with SqsDouble(sqs.ministack()) as double:
        yield double


@pytest.fixture
def caller(double: SqsDouble) -> Caller:
    return Caller(int(double.url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("fault", "status", "code", "acted"),
    [
        (throttled, 400, "RequestThrottled", False),
        (broken, 500, "InternalError", False),
        (broken_after, 500, "InternalError", True),
    ],
)
def test_a_call_fails_before_or_after_the_server_has_acted(
    double: SqsDouble, caller: Caller, *, fault: Fault, status: int, code: str, acted: bool
) -> None:
    double.arrange(fault, SEND)
    answer = caller.send("a")
    assert (answer["status"], answer["__type"].rpartition("#")[2]) == (status, code)
    assert len(caller.receive()) == acted
    assert caller.send("b")["status"] == 200
    assert double.strikes[fault.__name__] == 1


@pytest.mark.parametrize(("fault", "acted"), [(cut, False), (cut_after, True), (cut_within, True)])
def test_a_connection_is_cut_before_or_after_the_server_has_acted(
    double: SqsDouble, caller: Caller, *, fault: Fault, acted: bool
) -> None:
    double.arrange(fault, SEND)
    with pytest.raises(LOST):
        caller.send("a")
    assert len(caller.receive()) == acted


def test_who_is_not_answered_is_let_go_when_it_heals(double: SqsDouble, caller: Caller) -> None:
    double.arrange(silent, SEND, times=None)
    connection = http.client.HTTPConnection(HOST, int(double.url.rpartition(":")[2]), timeout=0.2)
    connection.request("POST", "/", b"{}", {"X-Amz-Target": f"AmazonSQS.{SEND}"})
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    double.heal()
    assert caller.send("a")["status"] == 200


@pytest.mark.parametrize(("fault", "acted"), [(partly, ["b"]), (partly_told, ["a", "b"])])
def test_a_batch_fails_in_part(
    double: SqsDouble, caller: Caller, *, fault: Fault, acted: list[str]
) -> None:
    double.arrange(fault, SEND)
    answer = caller.send("a", "b")
    assert [each["Id"] for each in answer["Failed"]] == ["0"]
    assert [each["Id"] for each in answer["Successful"]] == ["1"]
    assert sorted(message["Body"] for message in caller.receive()) == acted


def test_what_is_ignored_counts_as_done_and_what_is_expired_does_not(
    double: SqsDouble, caller: Caller
) -> None:
    caller.send("a")
    [message] = caller.receive()
    double.arrange(ignored, DELETE)
    double.arrange(expired, DELETE)
    assert [each["Id"] for each in caller.delete(message)["Successful"]] == ["0"]
    [failure] = caller.delete(message)["Failed"]
    assert (failure["Code"], failure["SenderFault"]) == ("ReceiptHandleIsInvalid", True)
    caller.release(message)
    assert len(caller.receive()) == 1


def test_an_answer_comes_late(double: SqsDouble, caller: Caller) -> None:
    double.arrange(late(0.3), SEND, every=2)
    caller.send("a")
    assert not double.strikes
    began = time.monotonic()
    caller.send("b")
    assert time.monotonic() - began >= 0.3


def test_a_duplicate_has_a_handle_of_its_own_that_changes_nothing(
    double: SqsDouble, caller: Caller
) -> None:
    caller.send("a")
    double.deliver_twice(1)
    [message] = caller.receive()
    [copy] = caller.receive()
    assert (copy["MessageId"], copy["Body"]) == (message["MessageId"], "a")
    assert copy["ReceiptHandle"] != message["ReceiptHandle"]
    assert [each["Id"] for each in caller.delete(copy, message)["Successful"]] == ["1", "0"]
    assert double.strikes["twice"] == 1
    assert not caller.receive()
