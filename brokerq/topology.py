"""Seam 1, the part about what an app needs to exist in its broker: planned, compared, permitted.

Creating it is `Broker.declare`; this is what `brokerq topology` shows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from brokerq.broker import QueueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing that must exist in the broker.

    Attributes:
        kind: The broker's own word for it, such as `queue`.
        name: Its full name there, prefix included.
        settings: What it is made with, in the broker's own words; in the order to show them.
    """

    kind: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something in the broker that is not as planned.

    Attributes:
        setting: None: the thing itself is missing.
        wanted: As planned; None: the setting should not be there.
        actual: As found; None: it is not there.
    """

    kind: str
    name: str
    setting: str | None
    wanted: str | None
    actual: str | None

    def __str__(self) -> str:
        if self.setting is None:
            return f"{self.kind} {self.name} does not exist"
        wanted = "absent" if self.wanted is None else repr(self.wanted)
        actual = "absent" if self.actual is None else repr(self.actual)
        return f"{self.kind} {self.name}: {self.setting} is {actual}, wanted {wanted}"


@runtime_checkable
class Topology(Protocol):
    """A broker whose queues are things that people deploy, review and compare."""

    @abstractmethod
    def plan(self, queues: Sequence[QueueSpec]) -> Sequence[Resource]:
        """Return all that the queues need, in the order of creation; connects nothing.

        Raises `CapabilityError` for what the broker cannot keep.
        """

    @abstractmethod
    async def drift(self, queues: Sequence[QueueSpec]) -> Sequence[Difference]:
        """Compare the plan with what is there; changes nothing and never disturbs a worker.

        `Broker.declare(create=False)` raises `DriftError` exactly where this is not empty.
        """


@runtime_checkable
class Permissions(Protocol):
    """A broker that can say which rights each kind of user needs."""

    @abstractmethod
    def permissions(self, queues: Sequence[QueueSpec]) -> Mapping[str, str]:
        """Return the least rights of each role, as text that the broker's administrators use.

        Roles: `producer`, `consumer`, `operator` (dead letters, purging), `deployer`.
        """
