"""What a dead letter says, and how it is put back. Pure."""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath

from brokerq.catalogue import Letter, LetterState, Redrive
from brokerq.message import Message
from brokerq.outcome import text_of
from brokerq.redaction import NOTHING, Hider
from brokerq.store import Failure, Transition
from brokerq.wire import (
    DEAD_PREFIX,
    Head,
    WireError,
    read_head,
    without_verdict,
    write_headers,
)

MESSAGE_LIMIT = 1024
TRACEBACK_LIMIT = 8 * 1024
HISTORY_LIMIT = 10
NEVER = datetime.min.replace(tzinfo=UTC)
_ENGINE = str(PurePath(__file__).with_name("engine")) + os.sep


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where and by whom a job was ended."""

    at: datetime
    queue: str
    worker: str
    host: str
    app_version: str | None


def cut(text: str, limit: int) -> str:
    """Return `text` in at most `limit` bytes of UTF-8; what is left out is marked."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def describe(error: BaseException, *, hide: Hider = NOTHING) -> Failure:
    """Return the error as it is recorded."""
    cls = type(error)
    name = (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )
    return Failure(type=name, message=cut(hide(text_of(error)), MESSAGE_LIMIT))


def group_of(reason: str, job: str, error: BaseException | None) -> str:
    """Return a digest that is equal for failures with one cause.

    Of the error's type and the innermost frame outside of installed packages, not of its message;
    without an error: of the reason and the job.
    """
    if error is None:
        place = f"{reason}:{job}"
    else:
        place = f"{type(error).__qualname__}:{place_of(error) or job}"
    return hashlib.sha256(place.encode()).hexdigest()[:12]


def place_of(error: BaseException) -> str | None:
    """Return where the program's own code raised the error: file and function.

    An error that came from another process brings its `place` with the cause that shows it.
    """
    elsewhere: object = getattr(error.__cause__, "place", None)
    if isinstance(elsewhere, str):
        return elsewhere
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    return f"{own[-1].filename}:{own[-1].name}" if own else None


def _is_own(filename: str) -> bool:
    return "site-packages" not in filename and not filename.startswith(_ENGINE)


def write_letter(
    message: Message,
    *,
    reason: str,
    note: str | None,
    error: BaseException | None,
    first_at: datetime,
    attempts: int,
    crashes: int,
    epoch: int,
    scene: Scene,
    history: Sequence[Transition] = (),
    hide: Hider = NOTHING,
) -> Message:
    """Return the dead letter of a job's message: its own headers and body, and why."""
    dead: dict[str, str | None] = {
        "reason": reason,
        "at": scene.at.isoformat(),
        "first-at": first_at.isoformat(),
        "queue": scene.queue,
        "attempts": str(attempts),
        "crashes": str(crashes),
        "note": None if note is None else cut(hide(note), MESSAGE_LIMIT),
        "group": group_of(reason, message.headers.get("bq-job", ""), error),
        "host": scene.host,
        "worker": scene.worker,
        "app-version": scene.app_version,
    }
    if error is not None:
        failure = describe(error, hide=hide)
        dead["error-type"] = failure.type
        dead["error-message"] = failure.message
        dead["traceback"] = _trace(error, hide)
    if history:
        dead["history"] = json.dumps([_line(step) for step in history[-HISTORY_LIMIT:]])
    headers = dict(message.headers)
    if epoch:
        headers["bq-epoch"] = str(epoch)
    headers.update({f"{DEAD_PREFIX}{k}": v for k, v in dead.items() if v is not None})
    return Message(headers=headers, body=message.body)


def _line(step: Transition) -> str:
    note = f" {step.note}" if step.note else ""
    return f"{step.at.isoformat(timespec='milliseconds')} {step.state}{note}"


def _trace(error: BaseException, hide: Hider) -> str:
    """Return the end of the traceback, where the cause is, within the limit.

    The engine's own frames, through which every handler is called, are left out.
    """
    shown = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in shown.stack if not frame.filename.startswith(_ENGINE)]
    shown.stack = traceback.StackSummary.from_list(frames)
    data = hide("".join(shown.format())).encode("utf-8", "backslashreplace")
    if len(data) > TRACEBACK_LIMIT:
        data = "…".encode() + data[3 - TRACEBACK_LIMIT :]
    return data.decode("utf-8", "ignore")


def redriven(redrive: Redrive) -> tuple[Head, Message]:
    """Return what is published when a dead letter is put back."""
    return _fresh(
        redrive.letter.message,
        epoch=redrive.epoch,
        redrives=redrive.redrives,
        first_at=redrive.first_at,
        expires_at=redrive.expires_at,
    )


def redriven_storeless(letter: Message, *, now: datetime) -> tuple[Head, Message]:
    """Return the same where no store keeps the counts: they are the message's own."""
    head = read_head(letter)
    expires_at = head.expires_at if head.expires_at is None or head.expires_at > now else None
    return _fresh(
        letter,
        epoch=head.epoch + 1,
        redrives=head.redrives + 1,
        first_at=now,
        expires_at=expires_at,
    )


def _fresh(
    letter: Message, *, epoch: int, redrives: int, first_at: datetime, expires_at: datetime | None
) -> tuple[Head, Message]:
    head = read_head(without_verdict(letter))._replace(
        epoch=epoch,
        redrives=redrives,
        first_at=first_at,
        expires_at=expires_at,
        attempts=0,
        crashes=0,
        not_before=None,
    )
    return head, Message(headers=write_headers(head), body=letter.body)


def read_letter(message: Message, *, queue: str, level: str) -> Letter:
    """Return what a dead letter in the broker says of itself.

    One that brokerq did not write has the reason `unroutable` and what else can be told.
    """
    dead = {
        name.removeprefix(DEAD_PREFIX): value
        for name, value in message.headers.items()
        if name.startswith(DEAD_PREFIX)
    }
    try:
        head = read_head(without_verdict(message))
    except WireError:
        head = None
    reason = dead.get("reason", "unroutable")
    job = head.job if head else message.headers.get("bq-job", "")
    return Letter(
        job_id=message.headers.get("bq-id", ""),
        epoch=head.epoch if head else 0,
        state=LetterState.OPEN,
        job=job,
        queue=dead.get("queue", queue),
        level=level,
        reason=reason,
        error_type=dead.get("error-type"),
        error_message=dead.get("error-message"),
        group=dead.get("group") or group_of(reason, job, None),
        at=_instant(dead.get("at")) or (head.first_at if head else NEVER),
        redrives=head.redrives if head else 0,
        message=message,
    )


def _instant(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
