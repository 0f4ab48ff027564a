"""What is hidden of a job, and what is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerq import BrokerQ
from brokerq.errors import ConfigurationError
from brokerq.redaction import MASK, NOTHING, Redaction

CARD = Redaction(["card"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"card": "4111", "name": "Ann"}, {"card": MASK, "name": "Ann"}),
        ({"pay": [{"card": {"no": 1}}]}, {"pay": [{"card": MASK}]}),
        (["card"], ["card"]),
        ("card", "card"),
    ],
)
def test_a_field_is_hidden_at_any_depth(value: object, shown: object) -> None:
    assert CARD.shown(value) == shown


@given(JSON)
def test_without_names_everything_is_shown(value: object) -> None:
    assert Redaction(()).shown(value) == value


@given(st.text("abc'\n\\", min_size=4), st.text("xyz"))
def test_no_text_holds_a_hidden_value_afterwards(secret: str, around: str) -> None:
    hide = CARD.hider(json.dumps({"card": secret}).encode())
    assert hide(f"{around}{secret}{around}") == f"{around}{MASK}{around}"


def test_a_value_is_found_as_repr_writes_it() -> None:
    hide = CARD.hider(b'{"card": "a\\nb\\nc", "other": "plain text"}')
    assert hide(repr(KeyError("a\nb\nc")) + " of plain text") == "KeyError('***') of plain text"


def test_a_value_within_another_leaves_nothing_of_the_longer_one() -> None:
    hide = CARD.hider(b'{"card": ["1234", "12345678"]}')
    assert hide("12345678 and 1234") == "*** and ***"


def test_numbers_are_hidden_and_short_values_are_not_looked_for() -> None:
    hide = CARD.hider(b'{"card": {"number": 41111111, "month": 12}}')
    assert hide("41111111 until 12") == "*** until 12"


def test_a_body_that_is_no_json_hides_nothing() -> None:
    assert CARD.hider(b"\xff") is NOTHING


def test_a_single_name_must_be_in_a_list() -> None:
    bq = BrokerQ("test", url="memory://")
    with pytest.raises(ConfigurationError, match=r"redact is a list of words: write \['card'\]"):
        bq.job(name="pay", redact="card")(print_nothing)


async def print_nothing() -> None: ...
