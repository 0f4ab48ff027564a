"""Putting dead letters back on their queues: record, publish, confirm, remove."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from brokerq.broker import Broker, DeadLetters, Lane, Outgoing
from brokerq.catalogue import NotRedriven, Redrive
from brokerq.dead_letter import redriven
from brokerq.sending import send
from brokerq.store import Catalogue

logger = logging.getLogger("brokerq")

LEASE = timedelta(seconds=30)
BATCH = 100


async def redrive(
    broker: Broker, store: Catalogue, job_ids: Sequence[str], *, by: str, force: bool
) -> Sequence[Redrive | NotRedriven]:
    """Put the newest dead letter of each job back; return what came of each.

    Killed in the middle, what was begun is finished by any worker, or by the next redrive, under
    the same epoch. So is a letter that the broker does not take now, its queue not being declared
    for one; the others do not wait for it.
    """
    answers = list(await store.begin_redrive(job_ids, by=by, force=force, lease=LEASE))
    begun = [answer for answer in answers if isinstance(answer, Redrive)]
    if not begun:
        return answers
    refused = await send(broker, [_outgoing(each) for each in begun])
    taken = [each for place, each in enumerate(begun) if place not in refused]
    if taken:
        await store.end_redrive(taken)
        await _remove(broker, taken)
    for place, (error, _) in refused.items():
        job_id = begun[place].letter.job_id
        why = f"job {job_id} is not on its queue yet, it is tried again: {error}"
        logger.warning("%s", why)
        answers[answers.index(begun[place])] = NotRedriven(job_id=job_id, why=why)
    return answers


async def resume_redrives(broker: Broker, store: Catalogue) -> int:
    """Finish redrives that were begun and left; return how many."""
    lapsed = await store.lapsed_redrives(limit=BATCH)
    if not lapsed:
        return 0
    answers = await redrive(broker, store, lapsed, by="resumed", force=True)
    return sum(isinstance(answer, Redrive) for answer in answers)


def _outgoing(each: Redrive) -> Outgoing:
    head, message = redriven(each)
    lane = Lane(queue=each.letter.queue, level=each.letter.level)
    return Outgoing(lane=lane, message=message, id=head.id, order=head.order, tenant=head.tenant)


async def _remove(broker: Broker, begun: Sequence[Redrive]) -> None:
    """Remove the physical letters; one left behind by a kill is known by its closed entry."""
    by_queue: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for each in begun:
        by_queue[each.letter.queue].append((each.letter.job_id, each.letter.epoch))
    if isinstance(broker, DeadLetters):
        letters = cast("DeadLetters", broker)
        for queue, keys in by_queue.items():
            await letters.discard(queue, keys)
