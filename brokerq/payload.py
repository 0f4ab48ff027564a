"""The body of a message: a job's arguments as one JSON object, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, NotRequired, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import (
    CoreConfig,
    PydanticSerializationError,
    SchemaError,
    SchemaSerializer,
    from_json,
)
from typing_extensions import TypedDict

from brokerq.errors import ConfigurationError, PayloadError

FINGERPRINT_LENGTH = 32
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, val_json_bytes="base64")
_WRITING = CoreConfig(ser_json_bytes="base64")
# Schemas that pydantic makes willingly and that no JSON fits, or whose value is not there yet.
_UNFIT = {
    "callable": "a function",
    "generator": "an iterator",
    "is-subclass": "a class",
}
_N, _I = b"NI"
canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class UndecodableError(PayloadError):
    """The body is not the JSON of an object."""


class Parameter(NamedTuple):
    """One argument of a job.

    Attributes:
        annotation: Resolved, no longer text.
        required: False where the handler has a default of its own.
    """

    name: str
    annotation: object
    required: bool


class Payload(NamedTuple):
    """Arguments that were checked.

    Attributes:
        body: Their JSON.
        values: As a worker reads them from the body: only those that were given.
    """

    body: bytes
    values: dict[str, object]


class PayloadCodec:
    """Reads and writes the arguments of one job; pydantic validates them on both sides.

    Bytes travel as base64, except within models, which say so themselves.

    Arguments that were not given stay out of the body, so that the handler's own default holds
    when the job runs, and a worker that does not know a new parameter yet can still run the job.
    """

    __slots__ = ("_job", "_parse", "_validate", "_write")

    def __init__(self, job: str, parameters: Sequence[Parameter]) -> None:
        """Raises `ConfigurationError` that names the parameter whose type JSON cannot carry."""
        self._job = job
        adapter = _adapter(job, parameters)
        # The adapter's own methods do the same at twice the cost, and its serializer does not look
        # at the configuration of a TypedDict.
        self._validate: Callable[[object], Any] = adapter.validator.validate_python
        self._parse: Callable[[bytes], Any] = adapter.validator.validate_json
        self._write = SchemaSerializer(adapter.core_schema, _WRITING).to_json

    def encode(self, arguments: Mapping[str, object]) -> Payload:
        """Return the arguments as JSON.

        Raises `PayloadError` that names the parameter: one is missing, unknown or of the wrong
        type, or would reach the handler as another value than was given.
        """
        try:
            values = self._validate(arguments)
        except ValidationError as exc:
            raise PayloadError(self._sentence(exc)) from None
        except Exception as exc:  # a validator of the user's may raise anything
            raise PayloadError(f"{self._job}: a validator failed: {exc!r}") from exc
        try:
            # What does not fit its type arrives as something else, and is refused for that.
            body = self._write(values, by_alias=True, round_trip=True, warnings=False)
        except (PydanticSerializationError, UnicodeEncodeError) as exc:
            raise PayloadError(f"{self._job}: cannot be encoded as JSON: {exc}") from exc
        arrived = self.decode(body)
        if arrived != values:
            self._refuse_changed(values, arrived)
        return Payload(body, arrived)

    def decode(self, body: bytes) -> dict[str, Any]:
        """Return the handler's keyword arguments.

        Raises `UndecodableError` for what is no JSON object, else `PayloadError` that names the
        parameter.
        """
        try:
            values: dict[str, Any] = self._parse(body)
        except ValidationError as exc:
            if any(not error["loc"] for error in exc.errors(include_input=False)):
                raise UndecodableError(self._sentence(exc)) from None
            raise PayloadError(self._sentence(exc)) from None
        except Exception as exc:  # a validator of the user's may raise anything
            raise PayloadError(f"{self._job}: a validator failed: {exc!r}") from exc
        refuse_constants(body, self._job)
        return values

    def _refuse_changed(self, values: dict[str, object], arrived: dict[str, object]) -> None:
        for name, value in values.items():
            other = arrived.get(name)
            if value == other:
                continue
            if type(value) is type(other) and type(value).__eq__ is object.__eq__:
                continue  # nothing to compare by
            raise PayloadError(
                f"{self._job}: parameter {name!r} would not reach the handler as it was given "
                f"({type(value).__name__} in, {type(other).__name__} out): annotate it with a type "
                "that keeps its value through JSON"
            )

    def _sentence(self, error: ValidationError) -> str:
        """Say what is wrong; the values themselves may be secret and are left out."""
        faults: list[str] = []
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            if not fault["loc"]:
                return f"{self._job}: the body is no JSON object of arguments: {fault['msg']}"
            name, *inner = fault["loc"]
            where = "".join(f".{part}" for part in inner)
            match fault["type"], inner:
                case "missing", []:
                    faults.append(f"parameter {name!r} is missing")
                case "extra_forbidden", []:
                    faults.append(f"there is no parameter {name!r}")
                case _:
                    faults.append(f"parameter '{name}{where}': {fault['msg']}")
        return f"{self._job}: {'; '.join(faults)}"


def refuse_constants(body: bytes, job: str) -> None:
    """Raise `UndecodableError` for the words that Python and pydantic read and JSON has not."""
    if _N not in body and _I not in body:  # so most bodies; letters are found faster than words
        return
    if b"NaN" not in body and b"Infinity" not in body:
        return

    def refuse(word: str) -> None:
        raise UndecodableError(f"{job}: {word} is not JSON")

    json.loads(body, parse_constant=refuse)


def fingerprint(body: bytes) -> str:
    """Return a digest of the body's JSON that neither spacing nor the order of names changes.

    Raises `UndecodableError`.
    """
    try:
        value = from_json(body)
    except ValueError as exc:
        raise UndecodableError(f"the body is not JSON: {exc}") from None
    return sha256(canonical_json(value).encode()).hexdigest()[:FINGERPRINT_LENGTH]


def _adapter(job: str, parameters: Sequence[Parameter]) -> TypeAdapter[Any]:
    try:
        adapter = _build(parameters)
    except (PydanticUserError, SchemaError, NameError, TypeError, ValueError) as exc:
        culprit = _culprit(parameters)
        raise ConfigurationError(
            f"job {job!r}: parameter {culprit!r} has a type that cannot be a payload "
            f"({_first_line(exc)}): pass plain data, a dataclass or a pydantic model, "
            "and make the object from it in the handler"
        ) from exc
    for parameter in parameters:
        # Under a name of ours, since `_unfit` passes over some words.
        unfit = _unfit(_build([parameter._replace(name="value")]).core_schema)
        if unfit is not None:
            raise ConfigurationError(
                f"job {job!r}: parameter {parameter.name!r} takes {unfit}, which JSON cannot "
                "carry: pass plain data, such as a name or a list, instead"
            )
    return adapter


def _build(parameters: Sequence[Parameter]) -> TypeAdapter[Any]:
    # A TypedDict because its keys may be any names, `json` and `model_config` among them.
    fields: dict[str, Any] = {
        p.name: p.annotation if p.required else NotRequired[cast("Any", p.annotation)]
        for p in parameters
    }
    make = cast("Callable[[str, dict[str, Any]], Any]", TypedDict)
    shape = make("Payload", fields)
    shape.__pydantic_config__ = _CONFIG
    return TypeAdapter(shape)


def _culprit(parameters: Sequence[Parameter]) -> str:
    for parameter in parameters:
        try:
            _build([parameter])
        except (PydanticUserError, SchemaError, NameError, TypeError, ValueError):
            return parameter.name
    return ", ".join(parameter.name for parameter in parameters)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(". Set `arbitrary_types")[0]


def _unfit(schema: object) -> str | None:
    """Return what no JSON fits, if a core schema asks for it anywhere."""
    if isinstance(schema, dict):
        node = cast("dict[str, object]", schema)
        kind = node.get("type")
        if isinstance(kind, str) and kind in _UNFIT:
            return _UNFIT[kind]
        # Keys that hold the user's own values, which may look like anything.
        parts = [v for k, v in node.items() if k not in {"metadata", "default", "expected"}]
    elif isinstance(schema, list | tuple):
        parts = list(cast("Sequence[object]", schema))
    else:
        return None
    return next((found for part in parts if (found := _unfit(part)) is not None), None)
