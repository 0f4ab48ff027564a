"""Whose an idempotency key is, by its record. Pure, as `brokerq.records`, which is about jobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from brokerq.record import KeyRecord, Now, Record, State
from brokerq.wire import Head


def scoped_key(head: Head) -> str | None:
    """Return the idempotency key as the store keeps it: unique per app and job."""
    return None if head.key is None else f"{head.job}:{head.key}"


def key_is_free(holder: KeyRecord | None, *, for_job: str, now: Now) -> bool:
    """Tell whether the job may hold the key."""
    return (
        holder is None
        or holder.job_id == for_job
        or (holder.expires_at is not None and holder.expires_at <= now.wall)
    )


def is_conflict(holder: KeyRecord, fingerprint: str | None) -> bool:
    """Tell whether the payloads differ; without both fingerprints they are taken as equal."""
    return (
        fingerprint is not None
        and holder.fingerprint is not None
        and holder.fingerprint != fingerprint
    )


def key_after(
    record: Record, holder: KeyRecord, *, window: timedelta, now: Now
) -> KeyRecord | None:
    """Return what is left of the key of a job that has ended; None: it is free.

    A success holds it for the window; any other end frees it.
    """
    if record.state != State.SUCCEEDED:
        return None
    return replace(holder, expires_at=now.wall + window)
