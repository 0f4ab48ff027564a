"""What a handler's signature makes of calls and bodies."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, computed_field

from brokerq.context import Context
from brokerq.errors import ConfigurationError, PayloadError
from brokerq.payload import UndecodableError, fingerprint
from brokerq.signature import Signature

Handler = Callable[..., Any]


def _id(value: object) -> str:
    """Return a test id that is the same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.5


class Blob(BaseModel):
    data: bytes


class Order(BaseModel, extra="forbid"):
    id: UUID
    price: Decimal
    lines: list[Point] = []
    note: str | None = Field(default=None, alias="remark")

    @computed_field  # type: ignore[prop-decorator]  # as pydantic wants it
    @property
    def total(self) -> Decimal:
        return self.price * 2


class Span(NamedTuple):
    start: date
    end: date


def both(order_id: str, cents: int) -> str:
    return f"{order_id}/{cents}"


def read(function: Handler) -> Signature:
    return Signature.of(function, job="work", context=Context)


def handler_of(annotation: Any) -> Handler:
    def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    return handler


async def charge(ctx: Context, order_id: str, cents: int = 5) -> dict[str, str]:
    return {"receipt": f"{ctx.id}{order_id}{cents}"}


def add(first: int, *, second: int) -> int:
    return first + second


def test_the_context_is_no_part_of_the_payload() -> None:
    signature = read(charge)
    assert signature.wants_context
    assert signature.is_async
    assert signature.names == ("order_id", "cents")


def test_a_plain_function_without_context_is_read_too() -> None:
    signature = read(add)
    assert not signature.wants_context
    assert not signature.is_async
    assert signature.names == ("first", "second")


def test_a_context_with_metadata_or_before_a_slash_is_a_context() -> None:
    def handler(ctx: Annotated[Context, "here"], /, name: str) -> None: ...

    assert read(handler).names == ("name",)


def test_methods_and_wrapped_functions_keep_their_parameters() -> None:
    class Shop:
        def sell(self, item: str) -> None: ...

    @functools.wraps(add)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert read(Shop().sell).names == ("item",)
    assert read(wrapper).names == ("first", "second")


@pytest.mark.parametrize(
    ("args", "kwargs", "body"),
    [
        (("o-1", 7), {}, b'{"order_id":"o-1","cents":7}'),
        (("o-1",), {"cents": 7}, b'{"order_id":"o-1","cents":7}'),
        ((), {"cents": 7, "order_id": "o-1"}, b'{"order_id":"o-1","cents":7}'),
        (("o-1",), {}, b'{"order_id":"o-1"}'),
        (("ä",), {"cents": "7"}, '{"order_id":"ä","cents":7}'.encode()),
    ],
)
def test_a_call_becomes_compact_json_of_what_was_given(
    args: tuple[object, ...], kwargs: dict[str, object], body: bytes
) -> None:
    payload = read(charge).encode(args, kwargs)
    assert payload.body == body
    assert payload.values == json.loads(body)


@pytest.mark.parametrize(
    ("args", "kwargs", "fault"),
    [
        ((), {}, "work: parameter 'order_id' is missing"),
        (("o",), {"cent": 1}, "there is no parameter 'cent'"),
        (("o",), {"order_id": "p"}, "parameter 'order_id' is given twice"),
        (("o", 1, 2), {}, "at most 2 arguments by position, got 3"),
        (("o", "seven"), {}, "parameter 'cents': Input should be a valid integer"),
        ((None,), {}, "parameter 'order_id': Input should be a valid string"),
        (("\ud800",), {}, "work: "),
    ],
)
def test_a_call_that_does_not_fit_is_refused_by_name(
    args: tuple[object, ...], kwargs: dict[str, object], fault: str
) -> None:
    with pytest.raises(PayloadError) as caught:
        read(charge).encode(args, kwargs)
    assert fault in str(caught.value)


def test_a_keyword_only_parameter_is_not_given_by_position() -> None:
    with pytest.raises(PayloadError, match="at most 1 arguments by position"):
        read(add).encode((1, 2), {})


def test_values_are_not_in_the_message_since_they_may_be_secret() -> None:
    with pytest.raises(PayloadError) as caught:
        read(charge).encode(("o",), {"cents": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_fault_deep_inside_is_named_by_its_path() -> None:
    with pytest.raises(PayloadError, match=r"parameter 'value.lines.0.x': "):
        read(handler_of(Order)).encode_mapping(
            {"value": {"id": str(UUID(int=1)), "price": "1", "lines": [{"x": "no"}]}}
        )


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 2**70),
        (float, 5),
        (bool, True),
        (bytes, b"\x00\xff"),
        (list[bytes], [b"ab"]),
        (UUID | str, UUID(int=1)),
        (str | None, None),
        (int | str, "5"),
        (int | str, 5),
        (date | datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        (datetime, datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2)))),
        (timedelta, timedelta(days=-1, microseconds=1)),
        (UUID, UUID(int=7)),
        (Decimal, Decimal("1.10")),
        (Color, Color.RED),
        (Point, Point(1, 2.5)),
        (Blob, Blob(data=b"ab")),
        (Span, Span(date(2026, 1, 1), date(2026, 2, 1))),
        (Order, Order(id=UUID(int=1), price=Decimal("9.90"), lines=[Point(1)], remark="x")),
        (list[list[Point]], [[Point(1)], []]),
        (dict[Color, set[int]], {Color.RED: {1, 2}}),
        (dict[int, str], {1: "a"}),
        (tuple[int, ...], (1, 2)),
        (Any, {"a": [1, 2.5, None, True, "x"]}),
        (Annotated[str, BeforeValidator(str.strip)], "x"),
    ],
    ids=_id,
)
def test_what_is_published_is_what_arrives(annotation: Any, value: object) -> None:
    signature = read(handler_of(annotation))
    payload = signature.encode((value,), {})
    assert signature.payload.decode(payload.body) == {"value": value}
    assert payload.values == {"value": value}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, math.nan),
        (float, -math.inf),
        (Decimal, Decimal("NaN")),
        (Any, math.nan),
        (Any, [math.inf]),
        (Any, datetime(2026, 1, 1, tzinfo=UTC)),
        (Any, {1: "a"}),
        (Any, object()),
        (UUID | str, str(UUID(int=1))),
        (SecretStr, SecretStr("hunter2")),
        (Annotated[int, AfterValidator(lambda n: n + 1)], 1),
    ],
    ids=_id,
)
def test_what_would_arrive_changed_is_refused(annotation: Any, value: object) -> None:
    with pytest.raises(PayloadError, match=r"'value'|encoded"):
        read(handler_of(annotation)).encode((value,), {})


def test_what_has_no_equality_is_not_compared() -> None:
    class Opaque:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            from pydantic_core import core_schema  # noqa: PLC0415

            return core_schema.no_info_plain_validator_function(
                lambda _: cls(),
                serialization=core_schema.plain_serializer_function_ser_schema(lambda _: "opaque"),
            )

    assert read(handler_of(Opaque)).encode((Opaque(),), {}).body == b'{"value":"opaque"}'


def test_a_validator_that_breaks_is_a_payload_error() -> None:
    def explode(_: object) -> None:
        raise KeyError("boom")

    signature = read(handler_of(Annotated[str, BeforeValidator(explode)]))
    with pytest.raises(PayloadError, match="boom"):
        signature.encode(("x",), {})
    with pytest.raises(PayloadError, match="boom"):
        signature.payload.decode(b'{"value":"x"}')


def test_parameters_may_have_any_name() -> None:
    def handler(  # noqa: PLR0917
        self: int,
        json: int,
        schema: int,
        model_config: int,
        copy: int,
        _x: int,
        type: int,  # noqa: A002
    ) -> None: ...

    signature = read(handler)
    values = dict.fromkeys(signature.names, 1)
    assert signature.payload.decode(signature.encode((1,) * 7, {}).body) == values


def test_without_annotations_any_json_goes() -> None:
    namespace: dict[str, Any] = {}
    exec("def handler(a, b=2): pass", namespace)  # noqa: S102
    signature = read(namespace["handler"])
    assert signature.payload.decode(b'{"a":[1]}') == {"a": [1]}


def test_without_parameters_the_body_is_an_empty_object() -> None:
    def handler() -> None: ...

    signature = read(handler)
    assert signature.encode((), {}).body == b"{}"
    assert signature.payload.decode(b"{}") == {}
    with pytest.raises(PayloadError, match="no parameter 'x'"):
        signature.payload.decode(b'{"x":1}')


@pytest.mark.parametrize(
    "body",
    [b"", b"nope", b"[]", b"null", b'"x"', b"\xff", b'{"order_id":"o"', b'{"order_id":"\xff"}'],
)
def test_a_body_that_is_no_object_is_undecodable(body: bytes) -> None:
    with pytest.raises(UndecodableError, match="work: the body is no JSON object"):
        read(charge).payload.decode(body)


def test_words_that_are_not_json_are_undecodable() -> None:
    signature = read(handler_of(Any))
    with pytest.raises(UndecodableError, match="NaN is not JSON"):
        signature.payload.decode(b'{"value":[NaN]}')
    assert signature.payload.decode(b'{"value":"NaN"}') == {"value": "NaN"}


@pytest.mark.parametrize("body", [b"{}", b'{"order_id":1}', b'{"order_id":"o","x":1}'])
def test_a_body_that_does_not_fit_is_another_matter(body: bytes) -> None:
    with pytest.raises(PayloadError) as caught:
        read(charge).payload.decode(body)
    assert not isinstance(caught.value, UndecodableError)


def test_a_fingerprint_does_not_see_spacing_and_order() -> None:
    first = fingerprint(b'{"a": 1, "b": {"c": 2, "d": "\xc3\xa4"}}')
    assert first == fingerprint('{"b":{"d":"ä","c":2},"a":1}'.encode())
    assert first != fingerprint(b'{"a":1,"b":{"c":3,"d":"x"}}')
    assert len(first) == 32
    assert set(first) <= set("0123456789abcdef")
    with pytest.raises(UndecodableError):
        fingerprint(b"nope")


@pytest.mark.parametrize(
    ("key", "values", "text"),
    [
        ("order_id", {"order_id": "o-1"}, "o-1"),
        ("cents", {"order_id": "o-1", "cents": 7}, "7"),
        ("cents", {"order_id": "o-1"}, "5"),
        (both, {"order_id": "o-1"}, "o-1/5"),
    ],
)
def test_a_key_is_made_of_the_arguments_and_defaults(
    key: Any, values: dict[str, object], text: str
) -> None:
    assert read(charge).key(key, values) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (UUID(int=1), str(UUID(int=1))),
        (Decimal("1.0"), "1.0"),
        (Color.RED, "red"),
        (date(2026, 1, 2), "2026-01-02"),
        (Point(1), '{"x":1,"y":0.5}'),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        (False, "false"),
        (0, "0"),
    ],
)
def test_a_key_is_the_text_of_its_parameter(value: object, text: str) -> None:
    assert read(handler_of(type(value))).key("value", {"value": value}) == text


@pytest.mark.parametrize("value", [None, "", "x" * 256])
def test_a_key_that_is_none_empty_or_too_long_is_refused(value: str | None) -> None:
    with pytest.raises(PayloadError, match="'value'"):
        read(handler_of(str | None)).key("value", {"value": value})


def test_a_key_must_name_a_parameter() -> None:
    signature = read(charge)
    signature.check_key("order_id")
    signature.check_key(both)
    with pytest.raises(ConfigurationError, match=r"'order'.*\(order_id, cents\)"):
        signature.check_key("order")
