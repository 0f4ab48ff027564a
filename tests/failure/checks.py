"""What must hold after any failure, told from the ledger and what brokerq recorded. Pure.

Every check returns sentences about what is wrong; none means that it holds. The ledger is the
judge: what brokerq recorded is only believed as far as both agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from brokerq import JobView, Letter, State
from brokerq.broker import QueueStats
from brokerq.record import BURIED, ENDED
from tests.failure.ledger import Entry, of

TOLERANCE = 0.002
"""Seconds; a due time is kept in microseconds, a duration in floating point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened, once everything has come to rest.

    Attributes:
        views: The record of each job that is known of, None where there is none.
        letters: The open dead letters.
        faults: How many processes were killed or stopped.
        stops: How many of these were stopped, to go on later.
        not_before: The earliest start of jobs that were published with a delay.
        max_attempts: What the jobs' policy says.
        slots: How many jobs one process has in hand at most, so that one fault can have hit no
            more; None: not known.
    """

    entries: list[Entry]
    views: Mapping[str, JobView | None]
    letters: Sequence[Letter]
    stats: Sequence[QueueStats]
    faults: int = 0
    stops: int = 0
    not_before: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    max_attempts: int = 3
    slots: int | None = None


def problems(story: Story) -> list[str]:
    """Return everything that is wrong."""
    checks = (
        nothing_lost,
        duplicates_bounded,
        effects_accounted,
        no_phantom,
        zombies_silent,
        budget_exact,
        never_early,
    )
    return [f"{check.__name__}: {what}" for check in checks for what in check(story)]


def nothing_lost(story: Story) -> list[str]:
    """Every confirmed job has ended, with a dead letter if it is buried; the queues are empty."""
    found: list[str] = []
    ends: Counter[State] = Counter()
    confirmed = {entry.more["id"] for entry in of(story.entries, "confirmed")}
    for job_id in sorted(confirmed):
        view = story.views.get(job_id)
        if view is None or view.state not in ENDED:
            found.append(f"{job_id} was confirmed and is {view.state if view else 'not recorded'}")
        else:
            ends[view.state] += 1
    if ends.total() < len(confirmed):
        found.append(f"{len(confirmed)} were confirmed, {ends.total()} ended")
    buried = {view.id for view in story.views.values() if view is not None and view.state in BURIED}
    listed = {letter.job_id for letter in story.letters}
    if buried != listed:
        found.append(f"buried, and not in the catalogue or the other way: {buried ^ listed}")
    found += [
        f"queue {stats.queue} is not empty: {stats}"
        for stats in story.stats
        if stats.ready or stats.in_flight or stats.delayed
    ]
    if sum(stats.dead for stats in story.stats) < len(buried):
        found.append(f"{len(buried)} jobs are buried, the broker's dead letters are {story.stats}")
    return found


def duplicates_bounded(story: Story) -> list[str]:
    """A job begins once, and once more for each try that ended in another, and for each fault."""
    found: list[str] = []
    surplus = 0
    ends = _by_job(of(story.entries, "end"))
    for job_id, begun in _by_job(of(story.entries, "begin")).items():
        came = [end.more["outcome"] for end in ends.get(job_id, ())]
        again = sum(outcome in {"fail", "snooze", "interrupted"} for outcome in came)
        explained = 1 + again + max(entry.redrives for entry in begun)
        surplus += max(0, len(begun) - explained)
        if len(begun) > explained + story.faults:
            found.append(f"{job_id} began {len(begun)} times, {explained} and the faults allow")
    if story.slots is not None and surplus > story.faults * story.slots:
        found.append(f"{surplus} runs too many, for {story.faults} faults of {story.slots} jobs")
    return found


def effects_accounted(story: Story) -> list[str]:
    """A success has an effect, all effects of a job have one key, which is no other job's."""
    found: list[str] = []
    effects = _by_job(of(story.entries, "effect"))
    begun = _by_job(of(story.entries, "begin"))
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for job_id, done in effects.items():
        for key in {entry.key for entry in done}:
            owners[key].add(job_id)
        if len({entry.key for entry in done}) > 1:
            found.append(f"{job_id} had its effect under several keys")
    for key, jobs in owners.items():
        succeeded = [job for job in jobs if _state(story, job) == State.SUCCEEDED]
        if len(succeeded) > 1:
            found.append(f"{key} took effect for the jobs {succeeded}")
    for job_id, view in story.views.items():
        if view is not None and view.state == State.SUCCEEDED and job_id not in effects:
            found.append(f"{job_id} succeeded without an effect")
        if len(effects.get(job_id, ())) > len(begun.get(job_id, ())):
            found.append(f"{job_id} took effect more often than it was run")
    return found


def no_phantom(story: Story) -> list[str]:
    """Whatever ran was asked for, with these arguments, and not refused each time."""
    attempted = Counter(entry.more["n"] for entry in of(story.entries, "attempted"))
    refusals = Counter(entry.more["n"] for entry in of(story.entries, "refused"))
    refused = {n for n, times in refusals.items() if times == attempted[n]}
    known = {entry.more["id"]: entry.more["n"] for entry in of(story.entries, "confirmed")}
    found: list[str] = []
    for job_id, begun in _by_job(of(story.entries, "begin")).items():
        for n in {entry.more["n"] for entry in begun}:
            if n not in attempted or n in refused:
                found.append(f"{job_id} ran with {n}, which nobody has published")
            if known.get(job_id, n) != n:
                found.append(f"{job_id} ran with {n}, it was published with {known[job_id]}")
    return found


def zombies_silent(story: Story) -> list[str]:
    """Fences only grow, each is given once, and what counts is what the last owner did.

    A process that was stopped may still begin a job just after it looked whether it owned it.
    """
    found: list[str] = []
    late: list[str] = []
    for job_id, begun in _by_job(of(story.entries, "begin")).items():
        fences = [entry.fence for entry in sorted(begun, key=_when)]
        if len(set(fences)) < len(fences):
            found.append(f"{job_id} was run under the fences {fences}")
        if sorted(fences) != fences:
            late.append(f"{job_id} was run under the fences {fences}")
        view = story.views.get(job_id)
        if view is None or view.state != State.SUCCEEDED or view.result is None:
            continue
        if view.result != b'{"fence":%d}' % max(fences):
            found.append(f"{job_id} was run under {fences}, its result is {view.result!r}")
    return found if len(late) <= story.stops else found + late


def budget_exact(story: Story) -> list[str]:
    """No attempt is skipped or counted twice; none comes after the last."""
    found: list[str] = []
    for letter in story.letters:
        view = story.views.get(letter.job_id)
        if letter.reason == "exhausted" and view and view.attempts != story.max_attempts:
            found.append(f"{letter.job_id} is exhausted after {view.attempts} attempts")
    for job_id, begun in _by_job(of(story.entries, "begin")).items():
        view = story.views.get(job_id)
        last = max(entry.redrives for entry in begun)
        tried = {entry.attempt for entry in begun if entry.redrives == last}
        if max(entry.attempt for entry in begun) > story.max_attempts:
            found.append(f"{job_id} was tried more than {story.max_attempts} times: {tried}")
        if tried != set(range(1, max(tried) + 1)):
            found.append(f"{job_id} was told the attempts {sorted(tried)}")
        if view is not None and view.redrives == last and not _agrees(view, max(tried)):
            found.append(f"{job_id} was tried {max(tried)} times, {view.attempts} are recorded")
    return found


def never_early(story: Story) -> list[str]:
    """No job starts before it is due."""
    return [
        f"{job_id} began {due.timestamp() - entry.wall:.3f} s early"
        for job_id, due in story.not_before.items()
        for entry in of(story.entries, "begin", job_id)
        if entry.wall < due.timestamp() - TOLERANCE
    ]


def _agrees(view: JobView, tried: int) -> bool:
    """Compare the record's attempts with the last that began; the one that ran may not count."""
    if view.state == State.SUCCEEDED or (view.state == State.DEAD and not view.crashes):
        return view.attempts == tried
    return view.attempts in {tried - 1, tried}


def _by_job(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    by_job: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_job[entry.job_id].append(entry)
    return by_job


def _when(entry: Entry) -> float:
    return entry.at


def _state(story: Story, job_id: str) -> State | None:
    view = story.views.get(job_id)
    return None if view is None else view.state


def unexplained(views: Collection[JobView | None]) -> list[str]:
    """Return the dead that do not say why."""
    return [
        f"{view.id} is {view.state} without a reason"
        for view in views
        if view is not None and view.state in BURIED and not view.note
    ]
