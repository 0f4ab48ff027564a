"""What AWS does to a call of SQS now and then, and no emulator does; for `SqsDouble`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

Json = dict[str, Any]
SEND, RECEIVE, DELETE = "SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch"
CHANGE = "ChangeMessageVisibilityBatch"
PATIENCE = 60


class Reply(NamedTuple):
    """What a server answers."""

    status: int
    content: bytes

    @classmethod
    def of(cls, value: Json, status: int = 200) -> Self:
        """Return an answer with that value."""
        return cls(status, json.dumps(value).encode())

    @classmethod
    def error(cls, status: int, code: str) -> Self:
        """Return an error as SQS words it."""
        return cls.of({"__type": f"com.amazonaws.sqs#{code}", "message": "by a test"}, status)

    @property
    def value(self) -> Json:
        """The answer, read."""
        value: Json = json.loads(self.content)
        return value


class CutError(Exception):
    """The connection is to be reset, after so much of an answer."""

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__()
        self.reply = reply


@dataclass(slots=True)
class Exchange:
    """One call.

    Attributes:
        carry_out: Has the server act and returns its answer.
        ended: Set when the double is closed or healed: nothing may wait longer.
    """

    action: str
    request: Json
    carry_out: Callable[[Json], Reply]
    ended: threading.Event

    @property
    def entries(self) -> list[Json]:
        """What the batch consists of."""
        entries: list[Json] = self.request["Entries"]
        return entries


Fault = Callable[[Exchange], Reply]


def throttled(_: Exchange) -> Reply:
    """Ask for patience."""
    return Reply.error(400, "RequestThrottled")


def skewed(_: Exchange) -> Reply:
    """Refuse a client whose clock is wrong."""
    return Reply.error(403, "RequestTimeTooSkewed")


def broken(_: Exchange) -> Reply:
    """Fail without doing anything."""
    return Reply.error(500, "InternalError")


def broken_after(exchange: Exchange) -> Reply:
    """Act, and fail to say so."""
    exchange.carry_out(exchange.request)
    return Reply.error(500, "InternalError")


def cut(_: Exchange) -> Reply:
    """Reset the connection without doing anything."""
    raise CutError


def cut_after(exchange: Exchange) -> Reply:
    """Act, and reset the connection."""
    exchange.carry_out(exchange.request)
    raise CutError


def cut_within(exchange: Exchange) -> Reply:
    """Act, and reset the connection in the middle of the answer."""
    raise CutError(exchange.carry_out(exchange.request))


def silent(exchange: Exchange) -> Reply:
    """Take the call, do nothing, say nothing."""
    exchange.ended.wait(PATIENCE)
    raise CutError


def silent_after(exchange: Exchange) -> Reply:
    """Act, and say nothing."""
    exchange.carry_out(exchange.request)
    return silent(exchange)


def partly(exchange: Exchange) -> Reply:
    """Carry out every other entry of a batch; the first is among those that fail."""
    return _report(exchange, exchange.entries[::2], exchange.entries[1::2])


def partly_told(exchange: Exchange) -> Reply:
    """Carry out all entries, and call every other one failed."""
    exchange.carry_out(exchange.request)
    return _report(exchange, exchange.entries[::2], [])


def ignored(exchange: Exchange) -> Reply:
    """Call everything done, and do nothing: as with an old receipt handle."""
    return Reply.of({"Successful": [{"Id": entry["Id"]} for entry in exchange.entries]})


def expired(exchange: Exchange) -> Reply:
    """Say of every delivery that it is no longer the client's."""
    return _report(exchange, exchange.entries, [], code="ReceiptHandleIsInvalid", sender=True)


def late(seconds: float) -> Fault:
    """Act at once, and answer late."""

    def fault(exchange: Exchange) -> Reply:
        reply = exchange.carry_out(exchange.request)
        exchange.ended.wait(seconds)
        return reply

    fault.__name__ = "late"
    return fault


def slow(seconds: float) -> Fault:
    """Act late."""

    def fault(exchange: Exchange) -> Reply:
        exchange.ended.wait(seconds)
        return exchange.carry_out(exchange.request)

    fault.__name__ = "slow"
    return fault


def _report(
    exchange: Exchange,
    failed: list[Json],
    left: list[Json],
    *,
    code: str = "InternalError",
    sender: bool = False,
) -> Reply:
    """Carry out what is left; call these failed, and the others done."""
    answer: Json = {}
    if left:
        answer = exchange.carry_out({**exchange.request, "Entries": left}).value
    why = {"Code": code, "SenderFault": sender, "Message": "by a test"}
    answer.setdefault("Failed", []).extend({"Id": entry["Id"], **why} for entry in failed)
    told = {each["Id"] for part in answer.values() for each in part}
    answer.setdefault("Successful", []).extend(
        {"Id": entry["Id"], "MessageId": "unknown", "MD5OfMessageBody": ""}
        for entry in exchange.entries
        if entry["Id"] not in told
    )
    return Reply.of(answer)
