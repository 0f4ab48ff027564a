"""What a broker and a store can do, in words: `brokerq explain`, the README's table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from brokerq.broker import Capabilities, Counting, Durability, Ordering, QueueSpec
from brokerq.definition import Definition
from brokerq.duration import ZERO, to_text
from brokerq.errors import CapabilityError

WITHOUT_STORE = (
    "idempotency: a duplicate publish, or a redelivery, runs the job again; keys are not held",
    "exact budgets: attempts are counted in the message, so there may be more than max_attempts",
    "status, results and cancelling of jobs; `brokerq jobs`",
    "the catalogue of dead letters; `brokerq dlq`",
    "pausing queues",
)
"""What `none://` does not do."""

_SURVIVES = {
    Durability.PROCESS: "nothing beyond the process",
    Durability.HOST: "a crash of the host",
    Durability.REPLICATED: "the loss of a host",
}
_COUNTED = {
    Counting.NONE: "no",
    Counting.ALL: "every delivery",
    Counting.FAILURES: "failed deliveries",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that a declared queue, or a job of it, needs.

    Attributes:
        kept: False: the app would be refused at start.
        how: Who keeps it, or what to do.
    """

    queue: str
    what: str
    kept: bool
    how: str


def capability_rows(can: Capabilities) -> list[tuple[str, str]]:
    """Return each capability with its value, in words."""
    if can.max_delay is None:
        delay = "any"
    elif can.max_delay == ZERO:
        delay = "none; the core adds any"
    else:
        delay = f"{to_text(can.max_delay)}; the core adds any"
    lease = "while connected" if can.lease is None else to_text(can.lease)
    ordered = can.ordering is Ordering.PER_KEY
    with_delay = "" if not ordered or can.delayed_ordering else ", not with a delay"
    return [
        ("a confirmed message survives", _SURVIVES[can.durability]),
        ("largest message", "no limit" if can.max_body is None else _bytes(can.max_body)),
        ("longest delay", delay),
        ("lease, renewed while a job runs", lease),
        ("longest run", "no limit" if can.max_hold is None else to_text(can.max_hold)),
        ("order", f"per ordering key{with_delay}" if ordered else "none"),
        ("priority levels", "any number" if can.max_levels is None else str(can.max_levels)),
        ("messages per round trip", f"{can.max_batch:,}"),
        ("counts deliveries", _COUNTED[can.counting]),
        ("notices a lost lease", "the broker" if can.reports_lost_lease else "brokerq's clock"),
        (
            "publish in your transaction",
            "yes" if can.publish_in_transaction else "through a store's outbox",
        ),
    ]


def capability_table(brokers: Sequence[tuple[str, Capabilities]]) -> str:
    """Return the capabilities of several brokers as a Markdown table; one column a URL scheme."""
    names = [f"`{scheme}://`" for scheme, _ in brokers]
    columns = [dict(capability_rows(can)) for _, can in brokers]
    labels = list(columns[0]) if columns else []
    lines = [["", *names], ["---"] * (len(names) + 1)]
    lines += [[label, *(column[label] for column in columns)] for label in labels]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def needs(
    queues: Iterable[QueueSpec],
    can: Capabilities,
    jobs: Iterable[Definition] = (),
    *,
    stored: bool = True,
) -> list[Need]:
    """Return what the queues need beyond a plain queue, and whether it is kept.

    Of the jobs only those that are not: the ones that may run for too long.
    """
    found: list[Need] = []
    for spec in queues:
        count = len(spec.levels)
        if count > 1:
            fits = can.max_levels is None or count <= can.max_levels
            how = (
                "levels of the broker, weighted by the core"
                if fits
                else (f"the broker takes {can.max_levels}: declare fewer priorities")
            )
            what = f"{count} priorities ({', '.join(spec.levels)})"
            found.append(Need(queue=spec.name, what=what, kept=fits, how=how))
        if spec.ordered:
            found.append(_order(spec.name, can, stored=stored))
    return found + [need for job in jobs if (need := _long_run(job, can)) is not None]


def refuse_long_runs(jobs: Iterable[Definition], can: Capabilities) -> None:
    """Raise `CapabilityError` for the jobs that may run for longer than a delivery can be held."""
    found = needs((), can, jobs)
    if found:
        raise CapabilityError("; ".join(f"{need.what}: {need.how}" for need in found))


def _long_run(job: Definition, can: Capabilities) -> Need | None:
    limit = can.max_hold
    if limit is None or (job.timeout is not None and job.timeout <= limit):
        return None
    timeout = "None" if job.timeout is None else to_text(job.timeout)
    return Need(
        queue=job.queue,
        what=f"job {job.name!r} has timeout={timeout}",
        kept=False,
        how=f"the broker takes back what runs for {to_text(limit)}, and it would run twice: "
        "give it a timeout below that, or cut it into shorter jobs",
    )


def _order(queue: str, can: Capabilities, *, stored: bool) -> Need:
    kept = can.ordering is Ordering.PER_KEY and (stored or can.delayed_ordering)
    if can.ordering is Ordering.NONE:
        how = "the broker keeps no order: declare it without ordered=, or choose another broker"
    elif not kept:
        how = "without a store retries are copies, which lose their place on this broker: name one"
    elif can.delayed_ordering:
        how = "the broker, per ordering key"
    else:
        how = "the broker, per ordering key; a delay is refused there"
    return Need(queue=queue, what="order", kept=kept, how=how)


def explanation(
    *,
    where: str,
    can: Capabilities,
    stored: bool,
    store_missing: str | None = None,
    queues: Sequence[QueueSpec] | None = None,
    jobs: Iterable[Definition] = (),
) -> str:
    """Return all that `brokerq explain` says, for people.

    Args:
        where: Broker and store, without credentials.
        can: What the broker can do.
        stored: Whether there is a store.
        store_missing: Why the app would be refused for want of one.
        queues: The app's; None: no app was asked about.
        jobs: The app's.
    """
    rows = capability_rows(can)
    width = max(len(label) for label, _ in rows)
    lines = [where, "", *(f"  {label.ljust(width)}  {value}" for label, value in rows)]
    if store_missing is not None:
        lines += ["", *store_missing.splitlines()]
    if not stored:
        lines += ["", "Without a store there is no:", *(f"  - {line}" for line in WITHOUT_STORE)]
    if queues is not None:
        lines += ["", *_queue_lines(queues, needs(queues, can, jobs, stored=stored))]
    return "\n".join(lines) + "\n"


def _queue_lines(queues: Sequence[QueueSpec], found: Sequence[Need]) -> list[str]:
    if not queues:
        return ["The app declares no queue."]
    lines = ["Queues:"]
    for spec in queues:
        own = [need for need in found if need.queue == spec.name]
        lines.append(f"  {spec.name} (lease {to_text(spec.lease)})")
        lines += [
            f"    {'kept' if need.kept else 'NOT KEPT'}: {need.what}: {need.how}" for need in own
        ]
        if not own:
            lines.append("    needs nothing special")
    return lines


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count} bytes"
