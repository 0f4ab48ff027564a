"""What a handler's parameters say: whether it wants the context, and what its payload is."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from brokerq.errors import ConfigurationError, PayloadError
from brokerq.options import MAX_KEY
from brokerq.payload import Parameter, Payload, PayloadCodec, canonical_json
from brokerq.result import ResultCodec

Key = str | Callable[..., str]
"""An idempotency key: the name of a parameter, or a callable that takes the arguments."""

_NOT_READABLE = (
    "which cannot be read when the program runs: import the name outside `if TYPE_CHECKING`, "
    "at the top of the module"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signature:
    """A handler's parameters and result, made ready for publishing and running.

    Attributes:
        job: The job's name, for messages.
        names: The payload's parameters, in order; the context is not among them.
        positional: How many of them may be given by position.
        defaults: The handler's own defaults.
    """

    job: str
    is_async: bool
    wants_context: bool
    names: tuple[str, ...]
    positional: int
    defaults: Mapping[str, object]
    payload: PayloadCodec
    result: ResultCodec

    @classmethod
    def of(cls, function: Callable[..., object], *, job: str, context: type) -> Signature:
        """Read a handler's signature.

        Args:
            function: A function or method, plain or `async def`.
            job: The job's name.
            context: The class that asks for the context where the first parameter has it.

        Raises:
            ConfigurationError: The handler cannot be a job; the message names the parameter and
                says what to do.
        """
        _check_kind(function, job)
        hints = _resolve(function, job)
        parameters = list(inspect.signature(function).parameters.values())
        wants_context = bool(parameters) and _is(hints.get(parameters[0].name), context)
        if wants_context:
            _check_context(parameters.pop(0), job)
        for parameter in parameters:
            _check(parameter, hints.get(parameter.name), job, context)
        return cls(
            job=job,
            is_async=inspect.iscoroutinefunction(function),
            wants_context=wants_context,
            names=tuple(p.name for p in parameters),
            positional=sum(p.kind is not p.KEYWORD_ONLY for p in parameters),
            defaults={p.name: p.default for p in parameters if p.default is not p.empty},
            payload=PayloadCodec(
                job,
                [
                    Parameter(p.name, hints.get(p.name, Any), p.default is p.empty)
                    for p in parameters
                ],
            ),
            result=ResultCodec(job, hints.get("return", Any)),
        )

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Payload:
        """Return arguments given as in a call, checked. Raises `PayloadError`."""
        if not args:
            return self.payload.encode(kwargs)
        if len(args) > self.positional:
            raise PayloadError(
                f"{self.job}: takes at most {self.positional} arguments by position, "
                f"got {len(args)}"
            )
        arguments = dict(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name in arguments:
                raise PayloadError(f"{self.job}: parameter {name!r} is given twice")
            arguments[name] = value
        return self.payload.encode(arguments)

    def encode_mapping(self, arguments: Mapping[str, object]) -> Payload:
        """Return arguments given by name, checked. Raises `PayloadError`."""
        return self.payload.encode(arguments)

    def check_key(self, key: Key) -> None:
        """Raise `ConfigurationError` if `key` names no parameter."""
        if isinstance(key, str) and key not in self.names:
            known = ", ".join(self.names) or "it has none"
            raise ConfigurationError(
                f"job {self.job!r}: idempotency_key={key!r} is none of its parameters ({known})"
            )

    def key(self, key: Key, values: Mapping[str, object]) -> str:
        """Return the idempotency key of a payload, the handler's defaults taken into account.

        Raises `PayloadError` for a key that is empty, None or longer than 255 characters, or where
        the callable raises.
        """
        whole = {**self.defaults, **values}
        if isinstance(key, str):
            origin = f"parameter {key!r}"
            text = _text(whole.get(key))
        else:
            origin = "the callable"
            try:
                text = _text(key(**whole))
            except Exception as exc:
                raise PayloadError(f"{self.job}: the idempotency key's callable: {exc!r}") from exc
        if not text:
            raise PayloadError(f"{self.job}: {origin} gives no idempotency key: it is empty")
        if len(text) > MAX_KEY:
            raise PayloadError(
                f"{self.job}: the idempotency key from {origin} has {len(text)} characters, "
                f"{MAX_KEY} are allowed: use a callable that makes a digest"
            )
        return text


def _text(value: object) -> str:
    if value is None:
        return ""
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else canonical_json(plain)


def _check_kind(function: Callable[..., object], job: str) -> None:
    if not isinstance(function, FunctionType | MethodType):
        raise ConfigurationError(
            f"job {job!r}: {type(function).__name__} is no function: write a `def` that calls it"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"job {job!r}: a generator cannot be a handler: return a list, or publish a job for "
            "each item, instead of `yield`"
        )


def _resolve(function: Callable[..., object], job: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as exc:
        written = inspect.get_annotations(function)
        for name in written:
            single = FunctionType((lambda: None).__code__, inspect.unwrap(function).__globals__)
            single.__annotations__ = {name: written[name]}
            try:
                typing.get_type_hints(single, include_extras=True)
            except Exception:  # noqa: BLE001 - an annotation is code and may raise anything
                what = "the result" if name == "return" else f"parameter {name!r}"
                raise ConfigurationError(
                    f"job {job!r}: {what} has the annotation {written[name]!r}, {_NOT_READABLE}"
                ) from exc
        raise ConfigurationError(f"job {job!r}: an annotation cannot be read: {exc}") from exc


def _is(annotation: object, context: type) -> bool:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation is context


def _mentions(annotation: object, context: type) -> bool:
    inner = typing.get_args(annotation)
    return _is(annotation, context) or any(_mentions(part, context) for part in inner)


def _check_context(parameter: inspect.Parameter, job: str) -> None:
    if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
        raise ConfigurationError(
            f"job {job!r}: {parameter.name!r}, the context, is passed by position: "
            f"write `{parameter.name}` as the first parameter, without `*` before it"
        )


def _check(parameter: inspect.Parameter, annotation: object, job: str, context: type) -> None:
    name = parameter.name
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise ConfigurationError(
            f"job {job!r}: parameter {stars}{name} has no fixed names: "
            "write the parameters out, or take one list or dict"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ConfigurationError(
            f"job {job!r}: parameter {name!r} is positional-only, and payloads go by name: "
            "remove the `/`, or move it to before this parameter"
        )
    if _mentions(annotation, context):
        raise ConfigurationError(
            f"job {job!r}: parameter {name!r} is the context and must be the first parameter, "
            "annotated with nothing but the class"
        )
    if isinstance(parameter.default, FieldInfo):
        raise ConfigurationError(
            f"job {job!r}: parameter {name!r} has Field(...) as its default: "
            f"write {name}: Annotated[..., Field(...)] and a plain default"
        )
