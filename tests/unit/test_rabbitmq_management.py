"""What the management API's answers mean, and what is refused with a sentence."""

from __future__ import annotations

import json

import pytest
from brokerq_rabbitmq.management import Reply, read_total
from brokerq_rabbitmq.options import ManagementAddress

from brokerq.errors import BrokerqError, ConfigurationError, ConnectionLostError

ADDRESS = ManagementAddress(
    is_secure=False, host="rabbit", port=15672, path="", user="me", password="hunter2"
)
LANES = ("shop:mail:high", "shop:mail:low")


def page(**counts: object) -> bytes:
    names = {"high": LANES[0], "low": LANES[1]}
    items = [
        {"name": names.get(name, name), "messages_unacknowledged": count}
        for name, count in counts.items()
    ]
    return json.dumps({"items": items, "page": 1}).encode()


def test_the_lanes_that_are_asked_for_are_added_up_and_no_others() -> None:
    reply = Reply(200, page(high=2, low=3, other=100))
    assert read_total(ADDRESS, "/", reply, LANES) == 5


@pytest.mark.parametrize(
    ("status", "body", "error", "sentence"),
    [
        (200, page(high=2), ConnectionLostError, "nothing of the queue shop:mail:low"),
        (200, b"<html>", ConfigurationError, "not the management API"),
        (200, b"[]", ConfigurationError, "not the management API"),
        (200, b'{"items": [{"name": "x"}]}', ConfigurationError, "not the management API"),
        (200, page(high=2, low="many"), ConfigurationError, "not the management API"),
        (401, b"{}", ConfigurationError, r"let user 'me' in \(401\).*'monitoring'"),
        (403, b"{}", ConfigurationError, r"let user 'me' in \(403\)"),
        (404, b"{}", ConfigurationError, "no virtual host '/v'"),
        (302, b"", ConfigurationError, "not the management API"),
        (503, b"", ConnectionLostError, "answers 503; is the plugin rabbitmq_management enabled"),
    ],
)
def test_what_is_no_count_is_an_error_and_no_other_number(
    status: int, body: bytes, error: type[BrokerqError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence) as raised:
        read_total(ADDRESS, "/v", Reply(status, body), LANES)
    assert "http://rabbit:15672" in str(raised.value)
    assert "hunter2" not in str(raised.value)
