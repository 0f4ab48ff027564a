"""What becomes of a handler's result."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from brokerq.context import Context
from brokerq.errors import PayloadError
from brokerq.signature import Signature


def _id(value: object) -> str:
    """Return a test id that is the same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.5


def result_of(annotation: Any) -> Signature:
    def handler() -> Any: ...

    handler.__annotations__["return"] = annotation
    return Signature.of(handler, job="work", context=Context)


@pytest.mark.parametrize(
    ("annotation", "value", "body"),
    [
        (Any, None, b"null"),
        (None, None, b"null"),
        (dict[str, str], {"a": "b"}, b'{"a":"b"}'),
        (bytes, b"\xff", b'"_w=="'),
        (Any, b"\xff", b'"_w=="'),
        (Point, Point(1), b'{"x":1,"y":0.5}'),
        (Any, Point(1), b'{"x":1,"y":0.5}'),
        (list[Color], [Color.RED], b'["red"]'),
        (timedelta, timedelta(minutes=1), b'"PT1M"'),
        (int, "not an int", b'"not an int"'),
        (socket.socket, 5, b"5"),
        (Awaitable[int], 5, b"5"),
        (str, "NaN", b'"NaN"'),
    ],
)
def test_a_result_becomes_json(annotation: Any, value: object, body: bytes) -> None:
    assert result_of(annotation).result.encode(value) == body


@pytest.mark.parametrize("annotation", [Any, dict[str, float], socket.socket])
@pytest.mark.parametrize("value", [{"a": math.nan}, {"a": math.inf}, {"a": object()}], ids=_id)
def test_a_result_that_json_cannot_carry_is_refused(annotation: Any, value: object) -> None:
    with pytest.raises(PayloadError, match=r"work: the result \(dict\) cannot be encoded"):
        result_of(annotation).result.encode(value)
