"""What PostgreSQL's text and arrays are written as."""

from datetime import UTC, datetime

import pytest
from brokerq_postgres.wire import (
    bounded,
    escape,
    scalars,
    texts,
    unescape,
)
from hypothesis import given
from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(codec=None))


@given(ANY_TEXT)
def test_any_text_comes_back_from_what_a_column_can_hold(text: str) -> None:
    held = escape(text)
    held.encode()
    assert "\x00" not in held
    assert unescape(held) == text


@pytest.mark.parametrize("text", ["", "order-1", "Grüße 🦀", "a\nb\tc", '{"a": "\\u0000"}'])
def test_ordinary_text_is_held_as_it_is(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("values", "array"),
    [
        ([], "{}"),
        (["a", "b"], '{"a","b"}'),
        ([""], '{""}'),
        (["a", None], '{"a",NULL}'),
        (["NULL"], '{"NULL"}'),
        (['say "hi"', "back\\slash"], '{"say \\"hi\\"","back\\\\slash"}'),
        (["a,b", "{c}"], '{"a,b","{c}"}'),
        (["one\x1ftwo"], '{"one\x1a001ftwo"}'),
        (["\x1e"], '{"\x1a001e"}'),
        (["\x00", "\ud800"], '{"\x1a0000","\x1ad800"}'),
        (["ü"], '{"ü"}'),
    ],
)
def test_texts_are_an_array_literal(values: list[str | None], array: str) -> None:
    assert texts(values) == array


def test_scalars_are_an_array_literal() -> None:
    at = datetime(2026, 11, 22, 5, 24, 26, 7, tzinfo=UTC)
    assert scalars([]) == "{}"
    assert scalars([1, None, -2.5]) == "{1,NULL,-2.5}"
    assert scalars([True, False]) == "{True,False}"
    assert scalars([at]) == "{2026-11-22 05:24:26.000007+00:00}"


def test_a_long_text_is_bounded_by_its_digest() -> None:
    long = "k" * 10_000
    assert bounded("k" * 600) == "k" * 600
    assert bounded(long) != bounded(long + "k")
    assert len(bounded("🦀" * 10_000).encode()) < 2_704
    assert bounded(bounded(long)) == bounded(long)
