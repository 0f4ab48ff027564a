"""What a process of these tests is told: data that travels as JSON."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Role = Literal["worker", "publisher", "redriver", "relay", "seller"]

Publish = tuple[str, dict[str, Any], str | None]
"""A job, its arguments, and its idempotency key where it is not the job's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A signal that the process sends to itself.

    Attributes:
        point: `before` or `after`, and the name of a call of a seam, as in `after finish`; also
            `after effect`, in the handler, and `after follow_up`, where settling takes steps.
        nth: At which time that the point is reached.
    """

    point: str
    nth: int = 1
    signal: int = signal.SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The store, or the broker, cannot be reached.

    Attributes:
        calls: The calls that fail.
        nth: It begins with the n-th of these calls.
        seconds: For how long.
    """

    calls: tuple[str, ...]
    nth: int = 1
    seconds: float = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an app of these tests lives.

    Attributes:
        store_url: A store of its own: then publishing takes one step after another.
        prefix: Of the names in the broker, where tests share one.
        stepwise: Settling takes one step after another, too, whatever the broker can do.
        ledger: The file for what really happened.
        lease: Seconds.
        max_pages: Limit of the database file, which is full then.
        max_delay: Seconds for which the broker can keep a message back; None: any number.
        call_timeout: Seconds that a call of SQS may take; it is tried again for twice as long.
    """

    url: str
    ledger: str
    store_url: str | None = None
    prefix: str | None = None
    stepwise: bool = False
    lease: float = 1.0
    max_pages: int | None = None
    max_delay: float | None = None
    call_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a process is to do.

    Attributes:
        log: The file for what it says.
        burst: A worker, or a relay, that stops when nothing is left.
        early: Seconds before a slot is free for it that a worker may claim a job; None: as always.
        publish: What a publisher, or a seller, publishes.
        together: How many of these it publishes at a time.
        delay: With which delay.
        copies: How often a publisher sends each message to the broker.
        redrive: Ids of the jobs that a redriver puts back.
        reservation: Seconds for which a publisher, redriver or relay holds what it has begun.
    """

    role: Role
    place: Place
    log: str
    fault: Fault | None = None
    outage: Outage | None = None
    burst: bool = False
    concurrency: int = 5
    grace: float = 5.0
    early: float | None = None
    publish: tuple[Publish, ...] = ()
    together: int = 1
    delay: str | None = None
    copies: int = 1
    redrive: tuple[str, ...] = ()
    reservation: float = 1.0

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        given = json.loads(text)
        given["place"] = Place(**given["place"])
        given["fault"] = None if given["fault"] is None else Fault(**given["fault"])
        if given["outage"] is not None:
            given["outage"] = Outage(**given["outage"])
        given["publish"] = tuple((job, arguments, key) for job, arguments, key in given["publish"])
        given["redrive"] = tuple(given["redrive"])
        return cls(**given)
