"""One moment of the model: everything that brokers, stores, workers and clients know.

The clock stands still. What time would do is done, as a step of its own, to what carries a time: a
lease lapses, a delay is over. So every order of such events is a path.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple

from brokerq.broker import Ack, Dead, Release, Reschedule, Verdict
from brokerq.catalogue import LetterState
from brokerq.duration import ZERO
from brokerq.outcome import Drop, Failed, Interrupted, Outcome, Reject, Snooze, Succeeded
from brokerq.records import CancelAnswer, Claimed, KeyRecord, Now, Record, State
from brokerq.retry import RetryPolicy
from tests.unit.model.messages import number_of

LEASE = timedelta(seconds=30)
DELAY = timedelta(seconds=1)
PUBLISHED = datetime(2026, 1, 1, tzinfo=UTC)
DEADLINE = PUBLISHED + timedelta(hours=1)
OWNER = "worker"
"""Both slots are one process's, so that nothing but the fence tells their claims apart."""
POLICY = RetryPolicy(
    max_attempts=2, max_crashes=2, backoff="fixed", initial=DELAY, jitter="none", max_age="99d"
)
IDS = ("a", "b")

SUCCESS = Succeeded()
FAILURE = Failed(error=ValueError("no"))
REJECTION = Failed(error=Reject("never"))
DROP = Failed(error=Drop("not needed"))
SNOOZE = Failed(error=Snooze(DELAY))
INTERRUPTION = Interrupted()


class Second(Enum):
    """What a second publisher does; all use the first one's key."""

    NONE = "there is none"
    DUPLICATE = "the same payload"
    CONFLICT = "another payload"
    BY_HAND = "the same payload, without asking the store"
    CONFLICT_BY_HAND = "another payload, without asking the store"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How much may happen.

    Attributes:
        losses: Leases that lapse while their holder lives and goes on.
        refusals: Reserved messages that the broker definitely does not take.
        lost_answers: Reservations whose publisher does not learn that they were made; it asks again
            under the other id, so there must be no second publisher.
        sends: How often the broker takes what the publisher sent once.
        outcomes: What a run may come to.
        releases: Runs that may end as snoozed or interrupted.
        in_place: Retries are this very message rather than a copy, and so are delayed releases.
        atomic: Follow-up and settlement are one transaction.
        late_settlement: The broker removes for a consumer whose lease it has ended.
        deadline: The job has one, and it may pass.
    """

    kills: int = 0
    losses: int = 0
    cancels: int = 0
    redrives: int = 0
    refusals: int = 0
    lost_answers: int = 0
    sends: int = 1
    second: Second = Second.NONE
    keyed: bool = False
    outcomes: tuple[Outcome, ...] = (SUCCESS, FAILURE)
    releases: int = 0
    in_place: bool = False
    atomic: bool = False
    late_settlement: bool = False
    deadline: bool = False

    @property
    def longest_in_place(self) -> timedelta:
        return timedelta(hours=1) if self.in_place else ZERO


class Ledger(NamedTuple):
    """What the world saw of a job, since its last redrive; the rules do not know of it.

    Attributes:
        taken: The broker took a message of it; for ever.
        promised: Its publisher was told so; for ever.
        fence: Of the newest claim; for ever.
        redrives: Times it was redriven.
        failures: Failures recorded.
        unrecorded: Runs of the handler of which no verdict was recorded.
        ended: How it ended.
        cancel: The answer to who cancelled it.
    """

    taken: bool = False
    promised: bool = False
    fence: int = 0
    redrives: int = 0
    failures: int = 0
    unrecorded: int = 0
    ended: State | None = None
    cancel: CancelAnswer | None = None


class Job(NamedTuple):
    record: Record | None = None
    ledger: Ledger = Ledger()


class Plan(NamedTuple):
    """A verdict as the broker carries it out: first the follow-up, then the original.

    Attributes:
        follow_up: Message that must be confirmed first.
        dead: It goes to the dead letters.
        at_once: What is delivered again has no delay.
        returns: The original is delivered again; else it is removed.
    """

    follow_up: int | None = None
    dead: bool = False
    at_once: bool = True
    returns: bool = False


class Stage(Enum):
    IDLE = "idle"
    RECEIVED = "received"
    CLAIMED = "claimed"
    RAN = "ran"
    RECORDED = "recorded"
    FOLLOWED_UP = "followed up"


class Slot(NamedTuple):
    """What a worker does with one delivery; a kill forgets it.

    Attributes:
        lost: The broker delivers the message again: this delivery is void.
    """

    stage: Stage = Stage.IDLE
    message: int = -1
    lost: bool = False
    claimed: Claimed | None = None
    outcome: Outcome | None = None
    plan: Plan | None = None


IDLE = Slot()


class Sending(Enum):
    START = "start"
    RESERVED = "reserved"
    TAKEN = "taken"
    OVER = "over"


class Publisher(NamedTuple):
    """Somebody who publishes.

    Attributes:
        reserves: The message has a key, and the publisher asks the store for it.
        sends: How often the broker may yet take it.
        took_over: The reservation was another's, whose message may be in the broker already: it is
            not freed even where the broker refuses this one.
    """

    name: str
    message: int
    reserves: bool
    sends: int = 1
    took_over: bool = False
    stage: Sending = Sending.START


class Entry(NamedTuple):
    """A dead letter in the catalogue; `copy_epoch` is that of its redrive."""

    id: str
    epoch: int
    state: LetterState
    message: int
    copy_epoch: int = 0


class Redriver(NamedTuple):
    """Somebody who redrives that letter."""

    id: str
    epoch: int
    sent: bool = False


class Waiting(NamedTuple):
    """A message in the broker that no consumer holds."""

    message: int
    due: bool


class World(NamedTuple):
    """Everything, and what may still happen to it.

    Attributes:
        dead: Job id and epoch of what lies in the dead-letter queue.
        late: The deadline has passed.
    """

    jobs: tuple[Job, Job]
    publishers: tuple[Publisher, ...]
    kills: int
    losses: int
    cancels: int
    redrives: int
    refusals: int
    lost_answers: int
    releases: int
    key: KeyRecord | None = None
    queue: tuple[Waiting, ...] = ()
    dead: frozenset[tuple[str, int]] = frozenset()
    letters: tuple[Entry, ...] = ()
    slots: tuple[Slot, Slot] = (IDLE, IDLE)
    redrivers: tuple[Redriver, ...] = ()
    late: bool = False

    @property
    def now(self) -> Now:
        return _LATE if self.late else _EARLY

    def job(self, job_id: str) -> Job:
        return self.jobs[IDS.index(job_id)]

    def with_job(self, job_id: str, job: Job) -> "World":
        a, b = self.jobs
        return self._replace(jobs=(job, b) if job_id == "a" else (a, job))

    def with_slot(self, position: int, slot: Slot) -> "World":
        first, second = self.slots
        return self._replace(slots=(slot, second) if position == 0 else (first, slot))

    def with_message(self, message: int, *, due: bool) -> "World":
        return self._replace(queue=tuple(sorted((*self.queue, Waiting(message, due)))))

    def without_message(self, waiting: Waiting) -> "World":
        rest = list(self.queue)
        rest.remove(waiting)
        return self._replace(queue=tuple(rest))

    def with_publisher(self, old: Publisher, new: Publisher) -> "World":
        return self._replace(publishers=tuple(new if p == old else p for p in self.publishers))


_EARLY = Now(wall=PUBLISHED, lease=0.0)
_LATE = Now(wall=DEADLINE, lease=0.0)


class Step(NamedTuple):
    """One thing that can happen.

    Attributes:
        forward: It happens by itself in time; otherwise it is a fault, or somebody's wish.
    """

    label: str
    after: World
    forward: bool = True


class ViolationError(AssertionError):
    """A promise was broken; the message says which, and how it came to that."""


def plan_of(verdict: Verdict, message: int, *, in_place: bool) -> Plan:
    """Return what the adapter does; without `in_place` a delay needs a copy."""
    match verdict:
        case Ack():
            return Plan()
        case Dead(message=letter):
            return Plan(follow_up=number_of(letter), dead=True)
        case Reschedule(delay=delay, message=copy) if copy is not None:
            return Plan(follow_up=number_of(copy), at_once=not delay)
        case Reschedule(delay=delay) | Release(delay=delay):
            if delay and not in_place:
                return Plan(follow_up=message, at_once=False)
            return Plan(at_once=not delay, returns=True)
