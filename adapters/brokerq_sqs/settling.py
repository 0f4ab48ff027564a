"""What verdicts are to SQS: deletes, visibilities, and messages to be sent first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from heapq import heappop, heappush

from brokerq.broker import Ack, Dead, Delivery, Release, Reschedule, Verdict
from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq_sqs.wire import LONGEST_DELAY, Entry, entry, pack, pack_letter, seconds

MAX_HOLD = timedelta(hours=12)
"""SQS counts from the receive, and refuses what would be longer."""
MARGIN = timedelta(minutes=1)
IN_PLACE = MAX_HOLD - timedelta(minutes=10)
"""The longest delay of a message in place, had it only just been received."""
MOST_IN_PLACE = 5_000
"""Messages that a consumer leaves waiting in place: 20 workers may, and run 20,000 jobs besides."""
SPARE_RECEIVES = 10
"""Receives that are left to a message for crashes when it is given back."""


class Hold:
    """A message that is held: the token of its delivery.

    Attributes:
        handle: SQS's receipt handle.
        since: When it was asked for, by our monotonic clock.
        until: When our lease ends.
        receives: How often SQS has handed it out.
        group: Ordering key or tenant, as SQS has it.
    """

    __slots__ = ("group", "handle", "receives", "since", "until")

    def __init__(
        self, handle: str, *, since: float, until: float, receives: int, group: str | None
    ) -> None:
        self.handle = handle
        self.since = since
        self.until = until
        self.receives = receives
        self.group = group


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one verdict is carried out.

    Attributes:
        send: To be confirmed before the original is deleted.
        to_dead: Whether it goes to the dead letters, else back to the queue.
        visibility: Seconds after which the original comes back; None: it is deleted.
    """

    send: Entry | None = None
    to_dead: bool = False
    visibility: int | None = None


class Crowd:
    """What one consumer has left waiting in place: a queue has at most 120,000 in flight."""

    def __init__(self, most: int = MOST_IN_PLACE) -> None:
        self._most = most
        self._due: list[float] = []

    def add(self, due: float) -> None:
        """Count one more, until it is due."""
        heappush(self._due, due)

    def is_full(self, now: float) -> bool:
        """Tell whether no more should wait in place."""
        while self._due and self._due[0] <= now:
            heappop(self._due)
        return len(self._due) >= self._most


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a queue makes of verdicts.

    Attributes:
        max_receives: Receives after which SQS gives up on a message; None: it never does.
    """

    ordered: bool
    max_receives: int | None

    def step(
        self, delivery: Delivery, hold: Hold, verdict: Verdict, *, now: float, crowded: bool = False
    ) -> Step | None:
        """Return how the verdict is carried out; None: SQS cannot.

        `crowded`: so many wait in place that a copy is better, which is not in flight as it waits.
        On an ordered queue a copy would lose its place, so that only the message itself comes back.
        Raises `BodyTooLargeError`.
        """
        match verdict:
            case Ack():
                return Step()
            case Dead(message=letter):
                return Step(send=self._entry(delivery, hold, letter, dead=True), to_dead=True)
            case Reschedule(delay=delay, message=Message() as copy):
                if self.ordered:
                    return None
                return Step(send=self._entry(delivery, hold, copy, delay=delay))
            case Reschedule(delay=delay) | Release(delay=delay):
                crowded = crowded and delay > ZERO
                return self._give_back(delivery, hold, delay, now=now, crowded=crowded)

    def _give_back(
        self, delivery: Delivery, hold: Hold, delay: timedelta, *, now: float, crowded: bool
    ) -> Step:
        left = MAX_HOLD - MARGIN - timedelta(seconds=now - hold.since)
        is_short = left < min(delay, LONGEST_DELAY)
        if not self.ordered and (crowded or is_short or self.is_worn(hold)):
            return Step(send=self._entry(delivery, hold, delivery.message, delay=delay))
        return Step(visibility=min(seconds(delay), seconds(left)))

    def is_worn(self, hold: Hold) -> bool:
        """Tell whether a message is so near to SQS's limit that a copy should begin anew."""
        if self.max_receives is None:
            return False
        spare = min(SPARE_RECEIVES, self.max_receives // 2)
        return hold.receives > self.max_receives - spare

    def _entry(
        self,
        delivery: Delivery,
        hold: Hold,
        message: Message,
        *,
        delay: timedelta = ZERO,
        dead: bool = False,
    ) -> Entry:
        """A delay beyond SQS's own is cut: the message comes early, and is given back again."""
        id_ = delivery.id or ""
        return entry(
            pack_letter(message, delivery.id) if dead else pack(message, delivery.id),
            id_,
            message,
            ordered=self.ordered,
            group=hold.group,
            delay=seconds(min(delay, LONGEST_DELAY)),
            dead=dead,
        )
