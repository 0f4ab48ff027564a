"""What has become of the requests of one publish. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from brokerq.errors import KeyConflictError, PublishError
from brokerq.publishing import Parcel, positions
from brokerq.record import Conflict, Held, Pending, ReserveAnswer


class Published(NamedTuple):
    """What became of one request.

    Attributes:
        id: The job's id.
        duplicate: The key was held: this is the job that holds it, and nothing was sent.
    """

    id: str
    duplicate: bool


class Tally:
    """What has become of each request so far, by its place.

    Attributes:
        left: Those whose key another publisher has reserved, to be asked for again.
    """

    def __init__(self, parcels: Sequence[Parcel]) -> None:
        self.parcels = list(parcels)
        self.published: dict[int, Published] = {}
        self.left: dict[int, Pending] = {}
        self.errors: list[KeyConflictError | PublishError] = []

    def add(self, answers: Sequence[ReserveAnswer] | PublishError, places: Sequence[int]) -> None:
        """Note what came of the requests at these places."""
        if isinstance(answers, PublishError):
            self.add_error(answers, places)
        else:
            self.add_answers(answers, places)

    def add_answers(self, answers: Sequence[ReserveAnswer], places: Sequence[int]) -> None:
        """Note what a store answered about the requests at these places."""
        for place, answer in zip(places, answers, strict=True):
            self.left.pop(place, None)
            if isinstance(answer, Pending):
                self.left[place] = answer
            elif isinstance(answer, Conflict):
                self.errors.append(conflict(answer, self.parcels[place]))
            else:
                self.published[place] = Published(answer.id, duplicate=isinstance(answer, Held))

    def add_error(self, exc: PublishError, places: Sequence[int]) -> PublishError:
        """Note an error about the requests at these places; return it as one about all of them."""
        error = PublishError(
            str(exc), failed=positions(places, exc.failed), unknown=positions(places, exc.unknown)
        )
        error.__cause__ = exc.__cause__
        self.errors.append(error)
        for place in places:
            self.left.pop(place, None)
        return error

    def result(self) -> list[Published]:
        """Return what became of every request, in their order; raise the first error instead."""
        if self.errors:
            raise self.errors[0]
        return [self.published[place] for place in range(len(self.parcels))]


def conflict(answer: Conflict, parcel: Parcel) -> KeyConflictError:
    """Return the error of a key that is held with another payload."""
    head = parcel.new.head
    return KeyConflictError(
        f"the idempotency key {head.key!r} of {head.job!r} is held by job {answer.id} with "
        "another payload",
        job_id=answer.id,
    )
