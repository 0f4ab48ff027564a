"""What a handler returns, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, SchemaError, to_json

from brokerq.errors import PayloadError

_CONFIG = ConfigDict(
    ser_json_bytes="base64", ser_json_inf_nan="constants", ser_json_timedelta="iso8601"
)
# What `to_json` writes by itself the same way.
_PLAIN: tuple[object, ...] = (Any, None, type(None), bool, int, float, str, dict, list)


class ResultCodec:
    """Writes the results of one job, by the handler's return annotation where it helps.

    A result is not validated: the job has done its work, and a loose annotation does not undo it.
    """

    __slots__ = ("_job", "_write")

    def __init__(self, job: str, annotation: Any = Any) -> None:
        self._job = job
        self._write = _writer(annotation)

    def encode(self, value: object) -> bytes:
        """Return the result as JSON. Raises `PayloadError` for what JSON cannot carry."""
        if value is None:
            return b"null"
        try:
            body = self._write(value)
            if b"NaN" in body or b"Infinity" in body:
                json.loads(body, parse_constant=_refuse)
        except Exception as exc:  # a serializer of the user's may raise anything
            raise PayloadError(
                f"{self._job}: the result ({type(value).__name__}) cannot be encoded as JSON: {exc}"
            ) from exc
        return body


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _writer(annotation: Any) -> Callable[[object], bytes]:
    if not any(annotation is plain for plain in _PLAIN):
        write = _annotated_writer(annotation)
        if write is not None:
            return write

    def write_plain(value: object) -> bytes:
        return to_json(value, bytes_mode="base64", inf_nan_mode="constants")

    return write_plain


def _annotated_writer(annotation: Any) -> Callable[[object], bytes] | None:
    for config in (_CONFIG, None):  # models and dataclasses have a configuration of their own
        try:
            to_bytes = TypeAdapter[Any](annotation, config=config).serializer.to_json
        except (PydanticUserError, PydanticSerializationError, SchemaError, NameError, TypeError):
            continue

        def write(value: object) -> bytes:
            return to_bytes(value, by_alias=True, warnings=False)  # noqa: B023 - returned at once

        return write
    return None
