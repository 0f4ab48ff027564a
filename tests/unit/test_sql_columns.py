"""Values as the columns of every SQL adapter hold them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerq.broker import Lane, Outgoing
from brokerq.errors import BodyTooLargeError
from brokerq.message import Message
from brokerq.sql import size
from brokerq.sql.columns import (
    from_micros,
    headers_text,
    read_headers,
    read_texts,
    span,
    to_micros,
    write_json,
)

ANY_TEXT = st.text(st.characters(codec=None))
"""Lone surrogates, too."""


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_whole_microseconds(instant: datetime) -> None:
    assert from_micros(to_micros(instant)) == instant


def test_instants_count_from_1970() -> None:
    assert to_micros(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert to_micros(datetime(1970, 1, 2, microsecond=3, tzinfo=UTC)) == 86_400 * 1_000_000 + 3


def test_a_negative_duration_is_none() -> None:
    assert span(timedelta(seconds=-1)) == 0
    assert span(timedelta(days=30, microseconds=1)) == 30 * 86_400 * 1_000_000 + 1


@given(st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_headers_of_any_kind_come_back(headers: dict[str, str]) -> None:
    text = headers_text(headers)
    text.encode()
    assert "\x00" not in text
    assert read_headers(text) == headers


@pytest.mark.parametrize("texts", [[], ["a", ""], ["\ud800", "\x00"]])
def test_texts_come_back(texts: list[str]) -> None:
    assert read_texts(write_json(texts)) == texts


def test_null_is_no_texts() -> None:
    assert read_texts(None) == []


@pytest.mark.parametrize(
    ("headers", "body", "bytes_"),
    [({}, b"1234", 4), ({"a": "bc"}, b"1", 4), ({"ü": "🦀"}, b"", 6), ({"a": "\ud800"}, b"", 4)],
)
def test_a_size_is_all_bytes_of_headers_and_body(
    headers: dict[str, str], body: bytes, bytes_: int
) -> None:
    message = Message(headers=headers, body=body)
    outgoing = Outgoing(lane=Lane(queue="emails"), message=message, id="job-1")
    size.check(7, outgoing, limit=bytes_, scheme="carrier")
    said = rf"message 7 \(job-1\) has {bytes_} bytes of headers and body, carrier:// takes"
    with pytest.raises(BodyTooLargeError, match=said):
        size.check(7, outgoing, limit=bytes_ - 1, scheme="carrier")
