"""Records, dead letters and queues as the command line shows them. Pure."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, cast

from brokerq.cli.output import JsonObject, instant, seconds
from brokerq.redaction import Redaction

if TYPE_CHECKING:
    from brokerq.broker import QueueStats
    from brokerq.catalogue import Letter
    from brokerq.outbox import OutboxStats
    from brokerq.store import JobView, Transition

JOB_COLUMNS = ("id", "job", "queue", "state", "attempts", "first_at", "note")
LETTER_COLUMNS = ("id", "job", "queue", "reason", "error_type", "group", "at", "state")
QUEUE_COLUMNS = ("queue", "ready", "in_flight", "delayed", "dead", "oldest_seconds", "paused")


def job_summary(view: JobView) -> JsonObject:
    """Return what a list says of a job."""
    return {
        "id": view.id,
        "job": view.job,
        "queue": view.queue,
        "level": view.level,
        "state": view.state.value,
        "attempts": view.attempts,
        "crashes": view.crashes,
        "redrives": view.redrives,
        "first_at": instant(view.first_at),
        "due_at": instant(view.due_at),
        "expires_at": instant(view.expires_at),
        "ended_at": instant(view.ended_at),
        "key": view.key,
        "tags": list(view.tags),
        "correlation": view.correlation,
        "cause": view.cause,
        "worker": view.worker,
        "cancelling": view.cancelling,
        "note": view.note,
    }


def job_details(view: JobView, redaction: Redaction) -> JsonObject:
    """Return all that is recorded of a job, its payload and result decoded and redacted."""
    failure = view.failure
    return {
        **job_summary(view),
        "epoch": view.epoch,
        "headers": None if view.message is None else dict(view.message.headers),
        **_decoded("payload", None if view.message is None else view.message.body, redaction),
        **_decoded("result", view.result, redaction),
        "error_type": None if failure is None else failure.type,
        "error_message": None if failure is None else failure.message,
        "history": [
            {
                "state": step.state.value,
                "at": instant(step.at),
                "attempt": step.attempt,
                "note": step.note,
            }
            for step in view.history
        ],
        "log": list(view.log),
    }


def history_line(step: Transition) -> str:
    """Return one step of a job's life for people."""
    note = f"  {step.note}" if step.note else ""
    return f"{instant(step.at)}  {step.state.value}{note}"


def letter_summary(letter: Letter) -> JsonObject:
    """Return what a list says of a dead letter."""
    return {
        "id": letter.job_id,
        "epoch": letter.epoch,
        "state": letter.state.value,
        "job": letter.job,
        "queue": letter.queue,
        "level": letter.level,
        "reason": letter.reason,
        "error_type": letter.error_type,
        "error_message": letter.error_message,
        "group": letter.group,
        "at": instant(letter.at),
        "redrives": letter.redrives,
        "note": letter.note,
        "by": letter.by,
    }


def letter_details(letter: Letter, redaction: Redaction) -> JsonObject:
    """Return all of a dead letter, its payload decoded, redacted, and its traceback readable."""
    headers = dict(letter.message.headers)
    return {
        **letter_summary(letter),
        **_decoded("payload", letter.message.body, redaction),
        "traceback": headers.get("bq-dead-traceback"),
        "headers": headers,
    }


def letter_export(letter: Letter) -> JsonObject:
    """Return a dead letter from which every byte can be had back."""
    body = letter.message.body
    try:
        exact: JsonObject = {"body": body.decode()}
    except UnicodeDecodeError:
        exact = {"body_base64": base64.b64encode(body).decode()}
    return {**letter_summary(letter), "headers": dict(letter.message.headers), **exact}


def queue_summary(stats: QueueStats, *, paused: bool, levels: tuple[str, ...]) -> JsonObject:
    """Return how a queue stands."""
    return {
        "queue": stats.queue,
        "ready": stats.ready,
        "in_flight": stats.in_flight,
        "delayed": stats.delayed,
        "dead": stats.dead,
        "oldest_seconds": seconds(stats.oldest),
        "paused": paused,
        "levels": list(levels),
    }


def outbox_summary(stats: OutboxStats | None) -> JsonObject | None:
    """Return how the outbox stands; None: there is no store to have one."""
    if stats is None:
        return None
    return {
        "waiting": stats.waiting,
        "due": stats.due,
        "overdue_seconds": seconds(stats.overdue),
    }


def late_outbox(stats: OutboxStats) -> str:
    """Return a warning for people."""
    return (
        f"{stats.due} messages should have left the outbox, the oldest one "
        f"{stats.overdue.total_seconds():.0f} s ago: is there a worker, or `brokerq relay`, and "
        "does it reach the broker?"
    )


def _decoded(name: str, body: bytes | None, redaction: Redaction) -> JsonObject:
    """Return a body under `name` if it is JSON, else as Base64 under another name."""
    if body is None:
        return {name: None}
    try:
        return {name: redaction.shown(cast("object", json.loads(body)))}
    except ValueError:
        return {name: None, f"{name}_base64": base64.b64encode(body).decode()}
