"""Messages survive RabbitMQ's containers; what the broker or others add does no harm."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from brokerq_rabbitmq.ladder import LONGEST
from brokerq_rabbitmq.versions import read_version
from brokerq_rabbitmq.wire import (
    MAX_HEADERS,
    Received,
    check,
    letter_key,
    read_count,
    read_letter,
    read_level,
    read_message,
    write_headers,
)
from hypothesis import given
from hypothesis import strategies as st

from brokerq.broker import Lane, Outgoing
from brokerq.errors import BodyTooLargeError, CapabilityError
from brokerq.message import Message

AT = datetime(2026, 11, 22, 5, tzinfo=UTC)
NAMES = st.text(max_size=20).filter(lambda n: not n.startswith("x-") and n not in {"CC", "BCC"})


def received(headers: dict[str, object], body: bytes = b"{}") -> Received:
    return Received(tag=1, id="one", headers=headers, body=body)


@given(st.dictionaries(NAMES, st.text(st.characters())))
def test_headers_come_back_as_they_were(headers: dict[str, str]) -> None:
    message = Message(headers=headers, body=b"\x00")
    assert read_message(received(write_headers(message), b"\x00")) == message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (7, "7"),
        (1.5, "1.5"),
        (None, ""),
        (AT, "2026-11-22T05:00:00+00:00"),
        (["a", 1], '["a", 1]'),
        ({"a": AT}, '{"a": "2026-11-22 05:00:00+00:00"}'),
        (b"\xff", "\ufffd"),
    ],
)
def test_what_other_programs_put_into_headers_is_text_here(value: object, text: str) -> None:
    assert read_message(received({"mine": value})).headers == {"mine": text}


def test_nothing_that_the_broker_adds_is_part_of_the_message() -> None:
    added: dict[str, object] = {
        "x-death": [{"reason": "expired"}],
        "x-first-death-queue": "q",
        "x-last-death-reason": "expired",
        "x-delivery-count": 3,
        "x-acquired-count": 4,
        "CC": ["q"],
        "BCC": ["q"],
    }
    assert read_message(received({"mine": "x", **added})).headers == {"mine": "x"}


def test_deliveries_are_counted_by_whichever_header_there_is() -> None:
    assert read_count({}) == 1
    assert read_count({"x-delivery-count": 2}) == 3
    assert read_count({"x-acquired-count": 4, "x-delivery-count": 1}) == 5
    assert read_count({"x-delivery-count": "spoofed"}) == 1


@pytest.mark.parametrize("spoofed", ["text", [], ["text"], {}, None, 7])
def test_a_spoofed_death_is_none(spoofed: object) -> None:
    headers: dict[str, object] = {"x-death": spoofed}
    assert "bq-dead-reason" not in read_letter(received(headers), "mail").headers
    assert read_level(headers) is None


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("delivery_limit", "crash_loop"),
        ("rejected", "rejected"),
        ("expired", "unroutable"),
        ("maxlen", "crash_loop"),
    ],
)
def test_a_letter_of_the_broker_says_why_in_our_words(reason: str, ours: str) -> None:
    death = {"reason": reason, "time": AT, "queue": "shop:mail:high"}
    native = received({"bq-id": "one", "x-death": [death, {"reason": "older"}]})
    assert read_level(native.headers) == "high"
    assert read_letter(native, "mail").headers == {
        "bq-id": "one",
        "bq-dead-reason": ours,
        "bq-dead-queue": "mail",
        "bq-dead-at": AT.isoformat(),
    }


def test_our_own_letter_is_left_as_it_is() -> None:
    headers: dict[str, object] = {"bq-dead-reason": "rejected", "x-death": [{"reason": "expired"}]}
    assert read_letter(received(headers), "mail").headers == {"bq-dead-reason": "rejected"}
    assert read_letter(received({"mine": "x"}), "mail").headers == {"mine": "x"}


def test_a_letter_is_known_by_its_job_and_epoch() -> None:
    assert letter_key(received({"bq-id": "job", "bq-epoch": "2"})) == ("job", 2)
    assert letter_key(received({"bq-epoch": "no number"})) == ("one", 0)


def outgoing(headers: dict[str, str], body: bytes = b"{}") -> Outgoing:
    return Outgoing(lane=Lane(queue="mail"), message=Message(headers=headers, body=body), id="one")


@pytest.mark.parametrize("name", ["CC", "BCC", "x" * 129, "é" * 65])
def test_header_names_that_rabbitmq_understands_or_cuts_are_refused(name: str) -> None:
    with pytest.raises(CapabilityError, match="message 3"):
        check(3, outgoing({name: "x"}))


def test_headers_that_do_not_fit_into_a_frame_are_refused() -> None:
    check(0, outgoing({"mine": "x" * (MAX_HEADERS - 100)}))
    check(0, outgoing({"é" * 64: "x"}))
    with pytest.raises(BodyTooLargeError, match="bytes of headers"):
        check(0, outgoing({"mine": "x" * MAX_HEADERS}))


def test_the_longest_delay_is_named_when_it_is_not_enough() -> None:
    late = Outgoing(
        lane=Lane(queue="mail"),
        message=Message(headers={}, body=b""),
        id="one",
        delay=LONGEST * 2,
    )
    with pytest.raises(CapabilityError, match="at most 54m at a time"):
        check(0, late)


@pytest.mark.parametrize(
    ("text", "number", "nack_counts", "supported"),
    [
        ("3.10.8", (3, 10), True, True),
        ("4.0.5", (4, 0), True, True),
        ("4.3.6", (4, 3), False, True),
        ("4.4.0-beta.1", (4, 4), False, True),
        ("3.9.29", (3, 9), True, False),
        ("", (0, 0), True, False),
    ],
)
def test_versions_differ_in_one_table(
    text: str, number: tuple[int, int], *, nack_counts: bool, supported: bool
) -> None:
    version = read_version(text)
    assert (version.number, version.nack_counts, version.supported) == (
        number,
        nack_counts,
        supported,
    )
