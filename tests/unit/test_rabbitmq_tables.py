"""Header tables are those of AMQP: pamqp reads what is written, and writes what is read."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, cast

import pytest
from brokerq_rabbitmq.tables import read_table, short, write_table
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode

if TYPE_CHECKING:
    from pamqp.common import FieldTable

NAMES = st.text(max_size=30)
INSTANTS = st.integers(0, 0xFFFF_FFFF).map(lambda s: datetime.fromtimestamp(s, tz=UTC))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(width=32, allow_nan=False),
        st.decimals(-(10**6), 10**6, places=3),
        st.text(),
        st.binary().map(bytearray),
        INSTANTS,
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=6)


def read(data: bytes) -> dict[str, object]:
    return read_table(data, 4, len(data))


@given(TABLES)
def test_what_is_written_is_what_pamqp_reads(table: dict[str, object]) -> None:
    written = write_table(table)
    assert decode.field_table(written) == (len(written), table)


@given(TABLES)
def test_what_pamqp_writes_is_read(table: dict[str, object]) -> None:
    assert read(encode.field_table(cast("FieldTable", table))) == table


@given(TABLES, st.data())
def test_a_table_that_is_cut_off_is_an_error(table: dict[str, object], data: st.DataObject) -> None:
    """Whatever of it is there: no other table is read."""
    written = write_table({**table, "last": "one"})
    cut = written[: data.draw(st.integers(4, len(written) - 1))]
    with pytest.raises(ValueError, match="cut off"):
        read_table(cut, 4, len(written))
    with pytest.raises((ValueError, IndexError, struct.error)):
        read_table(written, 4, len(written) - 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"t\x02", True),
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xff", -1),
        (b"u\xff\xff", 65_535),
        (b"I\xff\xff\xff\xff", -1),
        (b"i\xff\xff\xff\xff", 0xFFFF_FFFF),
        (b"l" + b"\xff" * 8, -1),
        (b"L" + b"\xff" * 8, -1),
        (b"d" + struct.pack(">d", 0.1), 0.1),
        (b"D\x02\x00\x00\x00\x7d", Decimal("1.25")),
        (b"S\x00\x00\x00\x01\xff", b"\xff"),
        (b"V", None),
        (b"T" + struct.pack(">Q", 1_800_000_000_000), datetime(2027, 1, 15, 8, tzinfo=UTC)),
        (b"T" + b"\xff" * 8, 2**64 - 1),
        (b"A\x00\x00\x00\x00", []),
        (b"F\x00\x00\x00\x00", {}),
        (b"A\x00\x00\x00\x04A\x00\x00\x00\x00", None),
    ],
)
def test_each_type_is_read(field: bytes, value: object) -> None:
    data = b"\x01a" + field + b"\x01bt\x01"
    if field.endswith(b"\x04A\x00\x00\x00\x00"):  # an array whose length is one short
        with pytest.raises(ValueError, match="behind"):
            read_table(data, 0, len(data))
    else:
        assert read_table(data, 0, len(data)) == {"a": value, "b": True}


def test_a_name_that_is_no_text_is_read_all_the_same() -> None:
    data = b"\x02a\xfft\x01"
    assert read_table(data, 0, len(data)) == {"a\ufffd": True}


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="Unknown type"):
        read_table(b"\x01a?\x00", 0, 4)


def test_what_has_no_type_or_no_room_is_refused() -> None:
    with pytest.raises(TypeError):
        write_table({"a": object()})
    with pytest.raises(ValueError, match="256 bytes"):
        write_table({"a" * 256: "b"})
    assert short("a" * 255) == b"\xff" + b"a" * 255
