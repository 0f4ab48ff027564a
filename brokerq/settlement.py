"""What is to become of a delivery, once its job's record says so. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from brokerq.broker import Ack, Dead, Release, Reschedule, Verdict
from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.records import BURIED, ENDED, Busy, ClaimAnswer, Claimed, Recorded, State

BUSY_FLOOR = timedelta(milliseconds=100)
BUSY_CEILING = timedelta(minutes=1)


def needs_copy(
    state: State,
    delay: timedelta,
    *,
    in_place: timedelta,
    counts_in_message: bool,
    may_copy: bool = True,
) -> bool:
    """Tell whether the next attempt must be a copy, which raises the epoch.

    Only a retry's may be: everything else that waits keeps its message. `counts_in_message`: there
    is no store, so the attempts travel in the headers and those must change. `may_copy`: if not, a
    copy would lose its place in the order, and the message waits in steps instead.
    """
    return state == State.RETRYING and may_copy and (counts_in_message or delay > in_place)


def next_copy(message: Message, *, epoch: int, attempts: int, crashes: int) -> Message:
    """Return the message of the next attempt: the same, but for its counts.

    It has no `bq-not-before`: the delay of a first publish is over.
    """
    headers = {k: v for k, v in message.headers.items() if k not in _COUNTS}
    for name, value in (("bq-epoch", epoch), ("bq-attempt", attempts), ("bq-crashes", crashes)):
        if value:
            headers[name] = str(value)
    return Message(headers=headers, body=message.body)


_COUNTS = frozenset({"bq-epoch", "bq-attempt", "bq-crashes", "bq-not-before"})


def settle_finished(
    state: State,
    message: Message,
    *,
    delay: timedelta,
    copy: Message | None,
    letter: Message | None,
) -> Verdict:
    """Return the verdict on the delivery whose run has just been recorded as `state`."""
    if state in ENDED:
        return Dead(message=letter or message) if state in BURIED else _ACK
    if state == State.RETRYING:
        return Reschedule(delay=delay, message=copy)
    return Release(delay=delay)


_ACK = Ack()


def in_reach(
    verdict: Verdict,
    message: Message,
    *,
    remembered: bool,
    in_place: timedelta,
    max_delay: timedelta | None,
    now: datetime,
) -> Verdict:
    """Return the verdict as the broker can carry it out; a longer delay is waited for in steps.

    The message comes too early then and is given back for the next step: its record says when it is
    due, by the store's clock, or its header `bq-not-before`, by the clock of whoever has written
    it. `remembered` says that one of them does already; if not, a copy gets that header, and a
    release becomes one, which is the same job, attempt and epoch.
    """
    match verdict:
        case Reschedule(delay=delay, message=None) if delay > in_place:
            return Reschedule(delay=in_place)
        case _ if max_delay is None:
            return verdict
        case Reschedule(delay=delay, message=Message() as copy) if delay > max_delay:
            later = copy if remembered else _not_before(copy, now + delay)
            return Reschedule(delay=max_delay, message=later)
        case Release(delay=delay) if delay > max(max_delay, in_place):
            if remembered:
                return Release(delay=max(max_delay, in_place))
            return Reschedule(delay=max_delay, message=_not_before(message, now + delay))
        case _:
            return verdict


def _not_before(message: Message, due: datetime) -> Message:
    headers = {**message.headers, "bq-not-before": due.isoformat()}
    return Message(headers=headers, body=message.body)


def next_wait(waited: timedelta, *, first: timedelta, longest: timedelta) -> timedelta:
    """Return how long to wait once more: as long as was waited so far, within the limits.

    So what is looked at again and again, and counted each time by some brokers, is looked at a few
    times in ten minutes, and comes at most twice as late as it could.
    """
    return max(first, min(waited, longest))


def longer_each_time(deliveries: int | None, *, first: timedelta, longest: timedelta) -> timedelta:
    """Return a wait that doubles with each delivery, where the broker counts them."""
    return min(first * (1 << min((deliveries or 1) - 1, 20)), longest)


def apart(place: int, times: int, *, step: timedelta, longest: timedelta) -> timedelta:
    """Return how long a job waits that came up together with others, but may not run beside them.

    The first of them waits one step; any other longer, and twice as long with each of the `times`
    that this has happened to it: so they part on a broker whose delays are coarse, too, or one that
    is late.
    """
    if place == 0:
        return step
    return place * step + longer_each_time(times + 1, first=step, longest=longest)


def settle_unclaimed(answer: ClaimAnswer, message: Message, *, deliveries: int | None) -> Verdict:
    """Return the verdict on a delivery that was not claimed: what is recorded is carried out.

    `deliveries`: the broker's count. A busy job's duplicate waits longer with each, up to a minute,
    and never less than what remains of the lease.
    """
    match answer:
        case Claimed():
            raise TypeError("a claimed delivery is settled when its run has ended")
        case Busy(wait=wait):
            backoff = longer_each_time(deliveries, first=BUSY_FLOOR, longest=BUSY_CEILING)
            return Release(delay=max(wait, backoff))
        case Recorded(state=State.RETRYING):
            copy = next_copy(
                message, epoch=answer.epoch, attempts=answer.attempts, crashes=answer.crashes
            )
            return Reschedule(delay=max(ZERO, answer.wait), message=copy)
        case Recorded(state=state, letter=letter) if state in BURIED:
            headers = message.headers if letter is None else letter
            return Dead(message=Message(headers=headers, body=message.body))
        case _:
            return Ack()
