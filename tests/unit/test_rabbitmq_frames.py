"""Frames are what pamqp makes of them, and what is no frame is an error that says why."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from brokerq_rabbitmq import frames
from brokerq_rabbitmq.frames import Content, FrameError, Splitter
from brokerq_rabbitmq.tables import MOST_DEPTH
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from tests.unit.test_rabbitmq_tables import INSTANTS, TABLES

if TYPE_CHECKING:
    from pamqp.common import FieldTable

NUMBERS = st.integers(1, 65_535)
TAGS = st.integers(1, 2**63 - 1)
SHORT = st.text(max_size=60)
NAMES = st.text("abc-.:/ 0", max_size=120)


def split(data: bytes) -> list[frames.Frame]:
    return list(Splitter().feed(data))


def payload(frame: bytes) -> bytes:
    [(_, _, payload)] = split(frame)
    return payload


# Sent


@given(number=NUMBERS, exchange=NAMES, key=SHORT, mandatory=st.booleans())
def test_publish_is_what_pamqp_says(
    number: int, exchange: str, key: str, *, mandatory: bool
) -> None:
    said = Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
    assert frames.publish(number, exchange, key, mandatory=mandatory) == marshal(said, number)


@given(number=NUMBERS, tag=TAGS, multiple=st.booleans())
def test_ack_and_nack_are_what_pamqp_says(number: int, tag: int, *, multiple: bool) -> None:
    ack, nack = Basic.Ack(tag, multiple), Basic.Nack(tag, multiple, requeue=True)
    assert frames.ack(number, tag, multiple=multiple) == marshal(ack, number)
    assert frames.nack(number, tag, multiple=multiple) == marshal(nack, number)


@given(NUMBERS, st.none() | st.text(min_size=1, max_size=60), TABLES, st.integers(0, 2**40))
def test_a_content_header_is_one_that_pamqp_reads(
    number: int, message_id: str | None, headers: dict[str, object], size: int
) -> None:
    written = frames.content(number, message_id, headers, size)
    used, channel, header = unmarshal(written)
    assert (used, channel) == (len(written), number)
    assert isinstance(header, ContentHeader)
    table = cast("FieldTable", headers)
    wanted = Basic.Properties(headers=table, delivery_mode=2, message_id=message_id)
    assert (header.body_size, header.properties) == (size, wanted)


@pytest.mark.parametrize("reply_to", [None, "amq.rabbitmq.reply-to"])
def test_the_header_of_what_may_get_lost_is_one_that_pamqp_reads(reply_to: str | None) -> None:
    header = unmarshal(frames.brief(3, reply_to, 7))[2]
    assert isinstance(header, ContentHeader)
    assert (header.body_size, header.properties) == (7, Basic.Properties(reply_to=reply_to))


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(0, []), (1, [1]), (4_088, [4_088]), (4_089, [4_088, 1]), (10_000, [4_088, 4_088, 1_824])],
)
def test_a_body_is_cut_to_what_was_agreed_on(size: int, sizes: list[int]) -> None:
    data = bytes(n % 251 for n in range(size))
    pieces = [unmarshal(each)[2] for each in frames.body(9, data, 4_096)]
    bodies = [piece.value for piece in pieces if isinstance(piece, ContentBody)]
    assert [len(each) for each in bodies] == sizes
    assert b"".join(bodies) == data


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="255"):
        frames.publish(1, "e", "k" * 256, mandatory=True)
    with pytest.raises(ValueError, match="255"):
        frames.content(1, "i" * 256, {}, 0)
    with pytest.raises(ValueError, match="255"):
        frames.method(1, Basic.Cancel("c" * 256))


# Received


@given(SHORT, TAGS, SHORT)
def test_deliver_is_read(consumer: str, tag: int, key: str) -> None:
    said = payload(marshal(Basic.Deliver(consumer, tag, redelivered=True, routing_key=key), 1))
    assert frames.index_of(said) == frames.DELIVER
    assert frames.read_deliver(said) == (consumer.encode(), tag)


@given(tag=TAGS, multiple=st.booleans())
def test_confirms_are_read(tag: int, *, multiple: bool) -> None:
    for said in (Basic.Ack(tag, multiple), Basic.Nack(tag, multiple, requeue=False)):
        assert frames.read_confirm(payload(marshal(said, 1))) == (tag, multiple)


TEXTS = st.none() | st.text(min_size=1, max_size=20)
PROPERTIES = st.fixed_dictionaries(
    {
        "content_type": TEXTS,
        "content_encoding": TEXTS,
        "headers": st.none() | TABLES,
        "delivery_mode": st.sampled_from([None, 1, 2]),
        "priority": st.none() | st.integers(0, 255),
        "correlation_id": TEXTS,
        "reply_to": TEXTS,
        "expiration": TEXTS,
        "message_id": TEXTS,
        "timestamp": st.none() | INSTANTS,
        "message_type": TEXTS,
        "user_id": TEXTS,
        "app_id": TEXTS,
    }
)
USUAL = st.fixed_dictionaries({
    "headers": TABLES, "delivery_mode": st.just(2), "message_id": st.text(min_size=1, max_size=60)
})  # fmt: skip


@given(PROPERTIES | USUAL, st.integers(0, 2**40))
def test_the_properties_of_any_sender_are_read(properties: dict[str, Any], size: int) -> None:
    header = ContentHeader(body_size=size, properties=Basic.Properties(**properties))
    assert frames.read_content(payload(marshal(header, 1))) == Content(
        size, properties["message_id"], properties["headers"] or {}, properties.get("reply_to")
    )


@given(PROPERTIES | USUAL, st.data())
def test_a_content_header_that_is_cut_off_is_an_error(
    properties: dict[str, Any], data: st.DataObject
) -> None:
    whole = payload(marshal(ContentHeader(properties=Basic.Properties(**properties)), 1))
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(FrameError):
        frames.read_content(cut)
    with pytest.raises(FrameError):
        frames.read_content(whole + b"\x00")


@pytest.mark.parametrize("flags", [0x1080, 0x3080], ids=["no headers", "as usual"])
def test_an_id_that_is_no_text_concerns_no_other_message(flags: int) -> None:
    headers = struct.pack(">I", 0) if flags & 0x2000 else b""
    head = struct.pack(">HHQH", 60, 0, 7, flags)
    read = frames.read_content(head + headers + b"\x02\x02\xff!")
    assert read == Content(7, "\ufffd!", {}, None)


def test_where_to_reply_that_is_no_text_concerns_no_other_message() -> None:
    read = frames.read_content(struct.pack(">HHQH", 60, 0, 7, 0x0200) + b"\x02\xff!")
    assert read == Content(7, None, {}, "\ufffd!")


def _with_headers(fields: bytes) -> bytes:
    head = struct.pack(">HHQHI", 60, 0, 7, 0x3080, len(fields))
    return head + fields + b"\x02\x03one"


def test_headers_that_cannot_be_read_concern_no_other_message() -> None:
    for fields in (b"\x01a?\x00", b"\x01aS\x00\x00\x00\x09b", b"\x09a"):
        assert frames.read_content(_with_headers(fields)) == Content(7, "one", {}, None)


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_tables_in_tables_without_end_are_read_to_a_depth(kind: bytes) -> None:
    name = b"\x01a" if kind == b"F" else b""
    fields = b""
    for _ in range(5_000):
        fields = name + kind + struct.pack(">I", len(fields)) + fields
    if kind == b"A":
        fields = b"\x01a" + fields
    read = frames.read_content(_with_headers(fields))
    assert (read.id, list(read.headers)) == ("one", ["a"])
    value = read.headers["a"]
    depth = 1
    while isinstance(value, dict | list):
        if isinstance(value, dict):
            value = cast("dict[str, object]", value)["a"]
        else:
            value = cast("list[object]", value)[0]
        depth += 1
    assert (type(value), depth) == (bytearray, MOST_DEPTH + 1)


@pytest.mark.parametrize(
    "said",
    [
        commands.Queue.DeclareOk("q", 3, 4),
        commands.Channel.Close(404, "NOT_FOUND - no queue 'q'", 50, 10),
        commands.Connection.Start(server_properties={"version": "4.0.5", "x": {"y": True}}),
        Basic.Return(312, "NO_ROUTE", "e", "k"),
        Basic.GetOk(7, redelivered=True, exchange="e", routing_key="k", message_count=9),
    ],
    ids=lambda said: said.name,
)
def test_methods_are_read_as_pamqp_reads_them(said: Any) -> None:
    frame = marshal(said, 5)
    [(kind, number, data)] = split(frame)
    assert (kind, number) == (frames.METHOD, 5)
    read = frames.read_method(data)
    assert type(read) is type(said)
    assert dict(read) == dict(said) == dict(cast("Any", unmarshal(frame)[2]))


def test_a_key_that_is_no_text_concerns_no_other_message() -> None:
    got = payload(marshal(Basic.GetOk(7, exchange="e", routing_key="k", message_count=9), 5))
    read = frames.read_method(got.replace(b"\x01k", b"\x01\xff"))
    assert isinstance(read, Basic.GetOk)
    assert (read.delivery_tag, read.routing_key, read.message_count) == (7, "\ufffd", 9)
    with pytest.raises(FrameError):
        frames.read_method(got[:-1])


def test_a_method_that_is_cut_off_is_an_error() -> None:
    said = payload(marshal(commands.Queue.DeclareOk("q", 3, 4), 5))
    for end in (0, 3, 4, 6, len(said) - 1):
        with pytest.raises(FrameError):
            frames.read_method(said[:end])


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    for read in (
        frames.read_method,
        frames.read_deliver,
        frames.read_confirm,
        frames.read_content,
        split,
    ):
        try:
            read(data)
        except FrameError:
            continue


# Taken apart

STREAM = b"".join([
    frames.HEARTBEAT,
    marshal(Basic.Deliver("c", 1, routing_key="k"), 1),
    marshal(ContentHeader(body_size=3), 1),
    marshal(ContentBody(b"abc"), 1),
    marshal(ContentBody(b""), 2),
])  # fmt: skip


@given(st.lists(st.integers(1, len(STREAM) - 1), unique=True))
def test_in_whatever_pieces_a_stream_comes_the_frames_are_the_same(cuts: list[int]) -> None:
    splitter = Splitter()
    edges = [0, *sorted(cuts), len(STREAM)]
    found: list[frames.Frame] = []
    for start, end in pairwise(edges):
        found += splitter.feed(STREAM[start:end])
    assert found == split(STREAM)
    assert [(kind, number) for kind, number, _ in found] == [(8, 0), (1, 1), (2, 1), (3, 1), (3, 2)]
    assert found[3][2] == b"abc"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HTTP/1.1 400 Bad Request", "unknown type 72"),
        (b"\x15\x03\x03\x00\x02\x02\x28\x00", "unknown type 21"),
        (b"AMQP\x00\x00\x09\x01", "unknown type 65"),
        (b"\x01\x00\x01\x00\x01\xff\xf9\xce", "131065 bytes, 131064 are agreed on"),
        (b"\x08\x00\x00\x00\x00\x00\x00\xcf", "does not end there"),
    ],
    ids=["text", "TLS", "another version", "too long", "no end"],
)
def test_what_is_no_frame_is_told_after_the_frames_before_it(data: bytes, why: str) -> None:
    found = Splitter().feed(frames.HEARTBEAT + data)
    assert next(found) == (8, 0, b"")
    with pytest.raises(FrameError, match=why):
        next(found)


def test_the_longest_frame_that_is_agreed_on_may_come() -> None:
    longest = bytes(frames.MOST_FRAME - frames.OVERHEAD)
    assert split(marshal(ContentBody(longest), 1)) == [(frames.BODY, 1, longest)]
