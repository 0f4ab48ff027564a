"""What the records say, counted, and the tables that show it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from brokerq.catalogue import Letter
from brokerq.demo.ledger import Entries
from brokerq.record import State
from brokerq.store import JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a table.

    Attributes:
        timing: Whether the number depends on timing, and so differs from run to run.
    """

    label: str
    value: int
    note: str = ""
    timing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Numbers under a title."""

    title: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over a run's records.

    Attributes:
        dead: By the reason in the dead letter.
        retried: Jobs that were tried more than once.
        retries: How often.
        taken_over: Jobs that a worker was lost with.
    """

    succeeded: int
    dead: Mapping[str, int]
    retried: int
    retries: int
    taken_over: int

    @classmethod
    def of(cls, records: Sequence[JobView], letters: Sequence[Letter]) -> Tally:
        """Count."""
        return cls(
            succeeded=sum(view.state is State.SUCCEEDED for view in records),
            dead=dict(sorted(Counter(letter.reason for letter in letters).items())),
            retried=sum(view.attempts > 1 for view in records),
            retries=sum(max(0, view.attempts - 1) for view in records),
            taken_over=sum(view.crashes > 0 for view in records),
        )


DEAD_NOTES = {
    "rejected": "answered 400: not tried again",
    "exhausted": "busy or late four times over",
    "crash_loop": "too many workers lost",
}


def first_table(tally: Tally, entries: Entries, *, rows: int, twice: int, absorbed: int) -> Table:
    """Return what stands when the queue has run empty for the first time."""
    return Table(
        title="After the first run",
        lines=[
            Line(label="rows", value=rows),
            Line(label="published", value=rows + twice, note=f"{twice:,} rows twice"),
            Line(label="duplicates absorbed", value=absorbed, note="by the idempotency key"),
            Line(label="succeeded", value=tally.succeeded, note="in brokerq's records"),
            *_dead(tally),
            Line(
                label="retried",
                value=tally.retried,
                note=f"rows; {tally.retries:,} retries",
                timing=True,
            ),
            Line(
                label="taken over",
                value=tally.taken_over,
                note="jobs that the killed worker had begun",
                timing=True,
            ),
            *_service(entries, succeeded=tally.succeeded),
        ],
    )


def last_table(tally: Tally, entries: Entries, *, rows: int, redriven: int, lost: int) -> Table:
    """Return the end state."""
    return Table(
        title="After the repair",
        lines=[
            Line(label="rows", value=rows),
            Line(label="redriven", value=redriven, note="dead letters put back on the queue"),
            Line(label="succeeded", value=tally.succeeded, note="in brokerq's records"),
            *_dead(tally),
            Line(label="lost", value=lost),
            *_service(entries, succeeded=tally.succeeded),
        ],
    )


def _dead(tally: Tally) -> list[Line]:
    return [
        Line(label=f"dead: {reason}", value=count, note=DEAD_NOTES.get(reason, ""))
        for reason, count in tally.dead.items()
    ]


def _service(entries: Entries, *, succeeded: int) -> list[Line]:
    by_status = ", ".join(f"{count:,} x {code}" for code, count in sorted(entries.statuses.items()))
    late = len(entries.effects) - succeeded
    untold = f"; {late:,} for dead jobs, answered too late" if late > 0 else ""
    return [
        Line(
            label="calls",
            value=entries.calls,
            note=f"in the service's ledger: {by_status}",
            timing=True,
        ),
        Line(label="effects", value=len(entries.effects), note=f"in the service's ledger{untold}"),
    ]
