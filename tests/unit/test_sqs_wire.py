"""A message goes through SQS's containers and comes back as it was."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from brokerq_sqs.wire import (
    BODY,
    HEADERS,
    ID,
    MAX_BODY,
    MAX_WIRE,
    Packed,
    as_id,
    batches,
    check_size,
    entry,
    is_judged,
    letter_key,
    pack,
    pack_letter,
    seconds,
    unpack,
)
from hypothesis import given
from hypothesis import strategies as st

from brokerq.errors import BodyTooLargeError
from brokerq.message import Message

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef

any_text = st.text(st.characters(codec=None))


def through(packed: Packed) -> MessageTypeDef:
    """Return what SQS would deliver."""
    attributes: dict[str, MessageAttributeValueOutputTypeDef] = {}
    for name, value in packed.attributes.items():
        attributes[name] = {"DataType": "String", "StringValue": str(value.get("StringValue"))}
    return {"MessageId": "theirs", "Body": packed.body, "MessageAttributes": attributes}


def is_legal(text: str) -> bool:
    """Tell whether SQS takes the text, as its documentation has it."""
    return all(
        c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000"
        for c in text
    )


@given(st.dictionaries(any_text, any_text), st.binary() | st.text().map(str.encode))
def test_any_message_comes_back_whole_and_is_legal_on_the_way(
    headers: dict[str, str], body: bytes
) -> None:
    packed = pack(Message(headers=headers, body=body), "j-1")
    assert packed.body
    assert is_legal(packed.body)
    assert all(is_legal(str(value.get("StringValue"))) for value in packed.attributes.values())
    message, id_ = unpack(through(packed))
    assert message == Message(headers=headers, body=body)
    assert id_ == "j-1"


@pytest.mark.parametrize(
    ("body", "text", "encoding"),
    [
        (b'{"n": 1}', '{"n": 1}', None),
        ("Grüße 🦀\r\n\t".encode(), "Grüße 🦀\r\n\t", None),
        (b"", "-", "empty"),
        (b"\x00", "AA==", "base64"),
        (b"\xff", "/w==", "base64"),
        ("\ufffe".encode(), "77++", "base64"),
    ],
)
def test_a_body_stays_text_where_sqs_takes_it(body: bytes, text: str, encoding: str | None) -> None:
    packed = pack(Message(headers={}, body=body), None)
    assert packed.body == text
    expected = {} if encoding is None else {BODY: {"DataType": "String", "StringValue": encoding}}
    assert packed.attributes == expected


def test_all_headers_are_one_attribute_and_the_id_is_said_once() -> None:
    packed = pack(Message(headers={"bq-id": "j", "mine": "ä"}, body=b"{}"), "j")
    assert list(packed.attributes) == [HEADERS]
    assert packed.attributes[HEADERS].get("StringValue") == '{"bq-id":"j","mine":"ä"}'
    assert packed.size == 2 + len(HEADERS) + len("String") + len('{"bq-id":"j","mine":"ä"}') + 1
    assert ID in pack(Message(headers={"bq-id": "j"}, body=b"{}"), "other").attributes


def test_attributes_of_a_program_that_knows_only_sqs_are_headers() -> None:
    raw: MessageTypeDef = {
        "MessageId": "m-1",
        "Body": "{}",
        "MessageAttributes": {
            "bq-job": {"DataType": "String", "StringValue": "charge"},
            "n": {"DataType": "Number", "StringValue": "1"},
            "blob": {"DataType": "Binary", "BinaryValue": b"\x00"},
        },
    }
    message, id_ = unpack(raw)
    assert message == Message(headers={"bq-job": "charge", "n": "1"}, body=b"{}")
    assert id_ == "m-1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (HEADERS, "no JSON"),
        (HEADERS, "[1]"),
        (HEADERS, '{"a": 1}'),
        (BODY, "rot13"),
        (BODY, "base64"),
        (BODY, "empty"),
    ],
)
def test_what_cannot_be_read_stays_as_it_is(name: str, text: str) -> None:
    raw: MessageTypeDef = {
        "MessageId": "m-1",
        "Body": "not base64!",
        "MessageAttributes": {name: {"DataType": "String", "StringValue": text}},
    }
    assert unpack(raw).message == Message(headers={name: text}, body=b"not base64!")


def test_what_always_fits_leaves_room_for_a_dead_letters_record() -> None:
    body = bytes(MAX_BODY)
    check_size(Message(headers={}, body=body), "j")
    record = {"bq-dead-traceback": "x" * 60_000}
    assert pack(Message(headers=record, body=body), "j").size <= MAX_WIRE
    with pytest.raises(BodyTooLargeError, match="reference"):
        check_size(Message(headers={"h": "é"}, body=body), "j")
    with pytest.raises(BodyTooLargeError, match="j-9"):
        pack(Message(headers={}, body=b"x" * (MAX_WIRE + 1)), "j-9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ({}, (None, 0)),
        ({"bq-id": "a", "bq-epoch": "3"}, ("a", 3)),
        ({"bq-id": "a", "bq-epoch": "³"}, ("a", None)),
        ({"bq-id": "a", "bq-epoch": "-1"}, ("a", None)),
        ({"bq-id": "a", "bq-epoch": "1" * 10}, ("a", None)),
    ],
)
def test_a_letter_is_named_by_id_and_epoch(
    text: dict[str, str], expected: tuple[str | None, int | None]
) -> None:
    assert letter_key(Message(headers=text, body=b"")) == expected


@pytest.mark.parametrize(
    ("room", "left_out"),
    [
        (7_000, set[str]()),
        (5_500, {"traceback"}),
        (3_000, {"traceback", "history"}),
        (1_000, {"traceback", "history", "note", "error-message"}),
    ],
)
def test_where_there_is_no_room_a_dead_letter_says_less_and_is_sent(
    room: int, left_out: set[str]
) -> None:
    record = {"traceback": "t" * 2_000, "history": "h" * 2_000, "error-message": "e" * 1_000}
    record |= {"note": "n" * 1_000, "reason": "rejected"}
    headers = {"bq-id": "j", **{f"bq-dead-{name}": text for name, text in record.items()}}
    body = b"b" * (MAX_WIRE - room)
    raw = through(pack_letter(Message(headers=headers, body=body), "j"))
    assert is_judged(raw)
    found = unpack(raw).message
    assert found.body == body
    assert headers.keys() - found.headers.keys() == {f"bq-dead-{name}" for name in left_out}


def test_a_dead_letters_body_is_never_cut() -> None:
    letter = Message(headers={"bq-dead-reason": "rejected"}, body=b"b" * MAX_WIRE)
    with pytest.raises(BodyTooLargeError):
        pack_letter(letter, "j")


def test_a_letter_is_told_from_what_sqs_gave_up_on() -> None:
    message = Message(headers={"bq-id": "a"}, body=b"")
    assert is_judged(through(pack(message, "a", dead=True)))
    assert unpack(through(pack(message, "a", dead=True))).message == message
    assert not is_judged(through(pack(message, "a")))
    assert not is_judged({"Body": "foreign"})


@pytest.mark.parametrize(
    ("duration", "whole"),
    [
        (timedelta(seconds=-1), 0),
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1),
        (timedelta(seconds=1), 1),
        (timedelta(seconds=1.2), 2),
        (timedelta(hours=12), 43_200),
    ],
)
def test_a_delay_is_never_shortened(duration: timedelta, whole: int) -> None:
    assert seconds(duration) == whole


@given(any_text)
def test_any_key_becomes_a_name_that_sqs_takes(key: str) -> None:
    name = as_id(key)
    assert 1 <= len(name) <= 128
    assert all("!" <= c <= "~" for c in name)
    assert as_id(key) == name
    assert as_id(key, "1") != as_id(key, "2")


def test_an_ordered_entry_has_a_group_and_says_what_it_is() -> None:
    message = Message(headers={"bq-epoch": "2"}, body=b"{}")
    packed = pack(message, "j")
    assert entry(packed, "j", message, ordered=False, group="t", delay=3)[1:] == (3, "t", None)
    assert entry(packed, "j", message, ordered=True, group="k")[1:] == (0, "k", "j.2")
    assert entry(packed, "j", message, ordered=True)[1:] == (0, "j", "j.2")
    assert entry(packed, "j", message, ordered=True, dead=True)[1:] == (0, "j", "j.2.dead")


@given(st.lists(st.integers(1, MAX_WIRE), max_size=60))
def test_batches_keep_the_limits_the_order_and_everything(sizes: list[int]) -> None:
    parts = list(batches(sizes))
    assert [place for part in parts for place in part] == list(range(len(sizes)))
    for part in parts:
        assert 1 <= len(part) <= 10
        assert sum(sizes[place] for place in part) <= MAX_WIRE
    for part, following in pairwise(parts):
        full = sum(sizes[place] for place in part) + sizes[following[0]] > MAX_WIRE
        assert len(part) == 10 or full
