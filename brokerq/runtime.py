"""What client and worker share while an app is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from brokerq import defaults
from brokerq.broker import Broker
from brokerq.clock import Clock
from brokerq.registry import Registry
from brokerq.store import Retention, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Numbers that an app may change.

    Attributes:
        window: How long a success holds its key, and every end its record, against redeliveries.
        max_result: Bytes of JSON; a larger result is not kept.
        keep_result: For how long a result can be asked for.
        unknown_wait: How long a job that no worker knows waits for one that does.
        renewals: So often a lease is renewed before it would end.
        finished: For how long an ended job is shown whole.
        finished_count: How many ended jobs are shown at most.
        dead: For how long dead letters are kept.
    """

    max_result: int = defaults.MAX_RESULT_BYTES
    keep_result: timedelta = defaults.RESULT_RETENTION
    window: timedelta = defaults.WINDOW
    unknown_wait: timedelta = defaults.UNKNOWN_JOB_WAIT
    renewals: int = defaults.RENEWALS_PER_LEASE
    finished: timedelta = defaults.FINISHED_RETENTION
    finished_count: int = defaults.FINISHED_LIMIT
    dead: timedelta = defaults.DEAD_RETENTION

    @property
    def retention(self) -> Retention:
        """What the store is told to keep."""
        return Retention(finished=self.finished, finished_count=self.finished_count, dead=self.dead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An open app.

    Attributes:
        store: None: nothing is remembered (`none://`).
        owner: This process, unique over restarts.
        new_id: Makes job ids: UUIDv7 as text.
    """

    registry: Registry
    broker: Broker
    store: Store | None
    clock: Clock
    random: Random
    owner: str
    host: str
    app_version: str | None
    new_id: Callable[[], str]
    limits: Limits
