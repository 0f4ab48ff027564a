"""The tables of a broker or store that lie in a database of the user's, and their versions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Version(NamedTuple):
    """One step of the schema; the first has number 1."""

    number: int
    name: str


class Migrations(Protocol):
    """What opening brings about by itself, unless it is told to leave it to people.

    Each call connects by itself and needs nothing open. Raises what `Broker.open` does, also for a
    schema that is newer than this program can use.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the tables are, without secrets; for people."""

    @property
    @abstractmethod
    def versions(self) -> Sequence[Version]:
        """All versions, in order."""

    @abstractmethod
    def script(self, *, since: int) -> str:
        """Return what leads from that version to the newest, to be read or run by hand.

        Zero: there is nothing yet. Connects to nothing.
        """

    @abstractmethod
    async def applied(self) -> int:
        """Return the number of the version that is there; zero: there is nothing yet."""

    @abstractmethod
    async def up(self) -> Sequence[Version]:
        """Apply what is missing, all or nothing; return what that was.

        Any number of processes may do so at once: one does it, the others wait.
        """

    @abstractmethod
    def leave_alone(self) -> None:
        """Have opening refuse, with `StorageError`, a schema that is missing or too old."""
