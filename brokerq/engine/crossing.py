"""What a worker and its child process say to each other, as bytes."""

from __future__ import annotations

import json
import pickle
import struct
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from brokerq.dead_letter import place_of
from brokerq.errors import PayloadError
from brokerq.outcome import text_of
from brokerq.record import Claimed
from brokerq.redaction import Hider
from brokerq.signature import Signature
from brokerq.wire import Head

LENGTH = struct.Struct("!Q")
"""What goes before each message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the child is to run; the rest it reads from the program's code.

    Attributes:
        main: How to load the program's main file; empty unless the handler is in it.
        body: The payload as it travelled.
    """

    job: str
    module: str
    qualname: str
    main: Mapping[str, str]
    body: bytes
    head: Head
    claimed: Claimed
    queue: str
    max_attempts: int
    hide: Hider


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The handler was found, and is called next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A line for the job's log."""

    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The handler returned.

    Attributes:
        pickled: What it returned, or that as plain JSON values; None: it is neither.
        type_name: Of what it returned.
    """

    pickled: bytes | None
    type_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The handler raised, or could not be found.

    Attributes:
        pickled: The error, or its class, arguments and attributes; None: neither can travel.
    """

    pickled: bytes | None
    type_name: str
    text: str
    traceback: str
    place: str | None


Answer = Begun | Logged | Returned | Raised


class HandlerError(Exception):
    """Stands for an error that cannot leave the process where it was raised."""


class ChildTraceback(Exception):  # noqa: N818 - the cause shown above an error, not an error
    """Shows, as the cause of an error from a child process, where it was raised there."""

    def __init__(self, text: str, place: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.place = place

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def frame(message: Work | Answer) -> bytes:
    """Return the message with its length before it."""
    data = pickle.dumps(message)
    return LENGTH.pack(len(data)) + data


def pack_result(value: object, signature: Signature) -> Returned:
    """Return a handler's result as it can travel: itself if possible, for the middleware."""
    pickled = _dumps(value)
    if pickled is None:
        try:
            pickled = _dumps(json.loads(signature.result.encode(value)))
        except PayloadError:
            pickled = None
    return Returned(pickled=pickled, type_name=type(value).__name__)


def unpack_result(returned: Returned) -> object:
    """Return the handler's result; where it could not travel, something JSON refuses as well."""
    if returned.pickled is None:
        return type(returned.type_name, (), {})()
    return pickle.loads(returned.pickled)  # noqa: S301 - from a child of ours


def pack_error(error: BaseException) -> Raised:
    """Return an error as it can travel, without what cannot."""
    pickled = _dumps(error)
    if pickled is None:  # often an `__init__` that takes something else than `args`
        args = error.args if _dumps(error.args) else (text_of(error),)
        state = {name: value for name, value in vars(error).items() if _dumps(value)}
        pickled = _dumps((type(error), args, state))
    trace = error.__traceback__
    shown = traceback.format_exception(type(error), error, trace.tb_next if trace else None)
    return Raised(
        pickled=pickled,
        type_name=type(error).__qualname__,
        text=text_of(error),
        traceback="".join(shown),
        place=place_of(error),
    )


def unpack_error(raised: Raised) -> BaseException:
    """Return the handler's error, or one that stands for it; its cause shows its traceback."""
    error = _error(raised)
    error.__cause__ = ChildTraceback(raised.traceback, raised.place)
    return error


def _error(raised: Raised) -> BaseException:
    stand_in = HandlerError(f"{raised.type_name}: {raised.text}")
    if raised.pickled is None:
        return stand_in
    try:
        error = pickle.loads(raised.pickled)  # noqa: S301 - from a child of ours
        if isinstance(error, BaseException):
            return error
        cls, args, state = error
        made: BaseException = cls.__new__(cls, *args)  # its `__init__` may want other arguments
        made.__dict__.update(state)
    except Exception:  # noqa: BLE001 - classes of the user's may raise anything here
        return stand_in
    return made if text_of(made) == raised.text else stand_in


def _dumps(value: object) -> bytes | None:
    """Return the pickled value; None: it would not come back."""
    try:
        data = pickle.dumps(value)
        pickle.loads(data)  # noqa: S301 - its own bytes
    except Exception:  # noqa: BLE001 - classes of the user's may raise anything here
        return None
    return data
