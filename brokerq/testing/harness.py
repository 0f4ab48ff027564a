"""What an adapter hands to `BrokerContract`: how to make its broker, and how time passes there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from brokerq.broker import Broker, DeadLetters, Inspectable, Lane, Outgoing
from brokerq.clock import Clock


class FullBroker(Broker, Inspectable, DeadLetters, Protocol):
    """A broker that can be inspected and whose dead letters can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHarness:
    """One place, such as a file or a server, and how to reach it.

    The contract opens and closes what it makes; what it leaves behind under the prefixes that it
    asked for is the adapter's to remove, in the teardown of its fixture.

    Attributes:
        make: Return a broker, not yet opened, for an app with that prefix; brokers with the same
            prefix see the same queues.
        clock: The one that the brokers were given.
        pass_time: Let that much time pass, for the brokers too: move a virtual clock, or sleep.
        lease: What the queues of the contract are declared with. Delays are halves and multiples
            of it. About a second where time is real; an even number of seconds where the broker
            knows no parts of one.
        tolerance: How late the broker may be; at most a quarter of `lease`.
        foreign: Put a body into the lane of the app with that prefix as a program would that knows
            the broker and not brokerq: no headers. None: there can be no such program.
        exhaust: Have the broker of the app with that prefix give up by itself on this message,
            which is published and ready: returns once it has. None: the broker is no `Backstop`.
    """

    make: Callable[[str], FullBroker]
    clock: Clock
    pass_time: Callable[[timedelta], Awaitable[None]]
    lease: timedelta
    tolerance: timedelta
    foreign: Callable[[str, Lane, bytes], Awaitable[None]] | None = None
    exhaust: Callable[[str, Outgoing], Awaitable[None]] | None = None
