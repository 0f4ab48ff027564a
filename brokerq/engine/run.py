"""One job in progress."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

from brokerq.broker import Delivery
from brokerq.context import Context
from brokerq.definition import Definition
from brokerq.duration import ZERO
from brokerq.engine.lanes import LaneReader
from brokerq.message import Message
from brokerq.outcome import Outcome
from brokerq.record import Claimed
from brokerq.redaction import NOTHING, Hider
from brokerq.retry import RetryPolicy
from brokerq.wire import Head


class Ending(Enum):
    """Why a handler is made to end before it is done."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class Run:
    """A delivery that was claimed, until it is settled.

    Attributes:
        definition: None: the job is unknown here.
        recorded: Whether the claim is in the store.
        ahead: By how much this host's clock is ahead of the store's, whose time an age is.
        held_until: When the store's lease ends unless it is renewed, by the app's monotonic clock;
            where nothing is recorded, never.
        sealed: Whether it is being settled, so that no delivery may share its fate any more.
        arguments: Of the handler; there once they are decoded.
        begun: Whether its task has run at all.
        followers: Other deliveries of the same job, which share its fate.
        result: The encoded result of a success.
        problem: Why there is none.
        committed: Whether its success is recorded already, by the transaction it worked in.
    """

    source: LaneReader
    delivery: Delivery
    message: Message
    head: Head
    claimed: Claimed
    policy: RetryPolicy
    definition: Definition | None
    recorded: bool
    ahead: timedelta = ZERO
    held_until: float = math.inf
    sealed: bool = False
    arguments: dict[str, Any] = field(init=False)
    context: Context | None = None
    task: asyncio.Task[None] | None = None
    begun: bool = False
    deadline: float | None = None
    ending: Ending | None = None
    outcome: Outcome | None = None
    result: bytes | None = None
    problem: str | None = None
    committed: bool = False
    followers: tuple[tuple[LaneReader, Delivery], ...] = ()

    @property
    def needs_record(self) -> bool:
        """Whether there is a record without which the job cannot be run again."""
        definition = self.definition
        return self.recorded and (definition is None or definition.on_store_error != "run")

    @property
    def hide(self) -> Hider:
        """What takes the job's redacted values out of texts."""
        if self.definition is None or not self.definition.redaction:
            return NOTHING
        return self.definition.redaction.hider(self.message.body)
