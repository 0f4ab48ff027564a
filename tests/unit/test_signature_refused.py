"""Functions that cannot be handlers, and what is said about them."""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import Field

from brokerq.context import Context
from brokerq.errors import ConfigurationError
from brokerq.signature import Signature

if TYPE_CHECKING:
    from fractions import Fraction as OnlyForTheTypeChecker

Handler = Callable[..., Any]


def read(function: Handler) -> Signature:
    return Signature.of(function, job="work", context=Context)


def handler_of(annotation: Any) -> Handler:
    def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    return handler


def add(first: int, *, second: int) -> int:
    return first + second


def positional(a: int, /) -> None: ...
def variadic(*names: str) -> None: ...
def keywords(**names: str) -> None: ...
def late_context(name: str, ctx: Context) -> None: ...
def optional_context(ctx: Context | None) -> None: ...
def keyword_context(*, ctx: Context) -> None: ...
def a_socket(name: str, sock: socket.socket) -> None: ...
def a_lock(lock: threading.Lock) -> None: ...
def a_callback(then: Callable[[], None]) -> None: ...
def an_iterator(rows: Iterable[int]) -> None: ...
def a_class(kind: type[int]) -> None: ...
def a_field(size: int = Field(gt=0)) -> None: ...  # pyright: ignore[reportArgumentType]
def unreadable(value: OnlyForTheTypeChecker) -> None: ...
def numbers(n: int) -> Iterator[int]:
    yield n


async def stream(n: int) -> AsyncIterator[int]:
    yield n


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (positional, "parameter 'a' is positional-only"),
        (variadic, r"parameter \*names .* write the parameters out"),
        (keywords, r"parameter \*\*names .* write the parameters out"),
        (late_context, "parameter 'ctx' is the context and must be the first"),
        (optional_context, "parameter 'ctx' is the context and must be the first"),
        (keyword_context, r"'ctx', the context, .* first parameter, without `\*`"),
        (a_socket, "parameter 'sock' has a type that cannot be a payload.*pass plain data"),
        (a_lock, "parameter 'lock' has a type that cannot be a payload"),
        (a_callback, "parameter 'then' takes a function"),
        (an_iterator, "parameter 'rows' takes an iterator"),
        (a_class, "parameter 'kind' takes a class"),
        (a_field, "parameter 'size' has Field"),
        (unreadable, "parameter 'value' has the annotation 'OnlyForTheTypeChecker'.*TYPE_CHECKING"),
        (handler_of("list[Missing]"), r"parameter 'value' has the annotation 'list\[Missing\]'"),
        (numbers, "a generator cannot be a handler"),
        (stream, "a generator cannot be a handler"),
        (functools.partial(add, 1), "partial is no function"),
    ],
)
def test_a_handler_that_cannot_be_a_job_is_refused(function: Handler, fault: str) -> None:
    with pytest.raises(ConfigurationError, match=f"job 'work': .*{fault}|job 'work': {fault}"):
        read(function)
