"""Publishing within the program's own transaction: what to ask the store for, in steps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from brokerq.broker import Outgoing
from brokerq.errors import PublishError
from brokerq.publishing import Parcel
from brokerq.record import NewJob, ReserveAnswer
from brokerq.tally import Published, Tally


class Step(NamedTuple):
    """A call of `Transactional.join`."""

    jobs: Sequence[tuple[NewJob, Outgoing]]
    outbox: bool


Joining = Generator[Step, Sequence[ReserveAnswer], list[Published]]


def join(
    parcels: Sequence[Parcel], *, shared: bool, relabel: Callable[[Parcel, str], Parcel]
) -> Joining:
    """Yield the calls, be sent their answers, return what became of each request.

    `shared`: the broker is in the database of the transaction, so that messages go to their queues.
    What holds up a key is not waited for: it may itself be waiting for this transaction. Raises
    `KeyConflictError` or `PublishError` when all others are in the transaction.
    """
    tally = Tally(parcels)
    for outbox in (False, True):
        places = [n for n, each in enumerate(parcels) if (each.waits or not shared) is outbox]
        if places:
            answers = yield _step([parcels[place] for place in places], outbox=outbox)
            tally.add_answers(answers, places)
    lapsed = {place: answer.id for place, answer in tally.left.items() if not answer.wait}
    for place, job_id in lapsed.items():
        parcel = relabel(parcels[place], job_id)
        answers = yield _step([parcel], outbox=parcel.waits or not shared)
        tally.add_answers(answers, [place])
    if tally.left:
        error = PublishError(
            "another publisher is about to use the same key: roll back, and try again in a moment",
            failed=range(len(tally.left)),
        )
        tally.add_error(error, list(tally.left))
    return tally.result()


def _step(parcels: Sequence[Parcel], *, outbox: bool) -> Step:
    return Step([(each.new, each.kept if outbox else each.outgoing) for each in parcels], outbox)
