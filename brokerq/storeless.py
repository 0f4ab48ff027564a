"""Dead letters where nothing is remembered: only the broker's own queues tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from brokerq.broker import Broker, DeadLetters, Lane, Outgoing
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.dead_letter import read_letter, redriven_storeless
from brokerq.errors import CapabilityError
from brokerq.records import LOOP_GUARD
from brokerq.registry import Registry
from brokerq.wire import WireError


class StorelessLetters:
    """What the catalogue does, by reading through the dead-letter queues each time."""

    def __init__(self, broker: Broker, registry: Registry) -> None:
        if not isinstance(broker, DeadLetters):
            raise CapabilityError("this broker's dead letters cannot be read: name a store")
        self._broker = broker
        self._letters = cast("DeadLetters", broker)
        self._registry = registry

    async def search(
        self, wanted: LetterFilter, *, now: datetime, limit: int, after: str | None
    ) -> Sequence[Letter]:
        """Return the newest letter of each job, oldest job id first; all of them are open."""
        newest: dict[str, Letter] = {}
        for letter in await self._all(wanted.queue):
            known = newest.get(letter.job_id)
            if known is None or known.epoch < letter.epoch:
                newest[letter.job_id] = letter
        found = [
            letter
            for letter in sorted(newest.values(), key=lambda each: each.job_id)
            if (after is None or letter.job_id > after) and wanted.fits(letter, now=now)
        ]
        return found[:limit]

    async def _all(self, queue: str | None) -> list[Letter]:
        found: list[Letter] = []
        for name, declared in self._registry.queues.items():
            if queue is not None and queue != name:
                continue
            async with self._letters.browse(name) as messages:
                async for message in messages:
                    priority = message.headers.get("bq-priority")
                    levels = declared.spec.levels
                    level = priority if priority in levels else declared.default_level
                    found.append(read_letter(message, queue=name, level=level))
        return found

    async def redrive(
        self, job_ids: Sequence[str], *, now: datetime, force: bool
    ) -> Sequence[Redrive | NotRedriven]:
        """Put letters back; killed in the middle, a job may be both on its queue and dead."""
        everything = LetterFilter(ids=job_ids)
        letters = await self.search(everything, now=now, limit=len(job_ids), after=None)
        by_id = {letter.job_id: letter for letter in letters}
        answers: list[Redrive | NotRedriven] = []
        for job_id in job_ids:
            letter = by_id.get(job_id)
            if letter is None:
                why = f"job {job_id} has no dead letter"
                answers.append(NotRedriven(job_id=job_id, why=why, missing=True))
            elif letter.redrives >= LOOP_GUARD and not force:
                why = f"job {job_id} was redriven {letter.redrives} times already: it needs force"
                answers.append(NotRedriven(job_id=job_id, why=why))
            else:
                answers.append(await self._put_back(letter, now))
        return answers

    async def _put_back(self, letter: Letter, now: datetime) -> Redrive | NotRedriven:
        try:
            head, message = redriven_storeless(letter.message, now=now)
        except WireError as exc:
            why = f"the dead letter of job {letter.job_id} cannot be read: {exc}"
            return NotRedriven(job_id=letter.job_id, why=why)
        lane = Lane(queue=letter.queue, level=letter.level)
        await self._broker.publish(
            [Outgoing(lane=lane, message=message, id=head.id, order=head.order, tenant=head.tenant)]
        )
        await self._letters.discard(letter.queue, [(letter.job_id, letter.epoch)])
        return Redrive(
            letter=letter,
            epoch=head.epoch,
            redrives=head.redrives,
            first_at=head.first_at,
            expires_at=head.expires_at,
        )

    async def close(
        self, job_ids: Sequence[str], *, state: LetterState, now: datetime
    ) -> Sequence[bool]:
        """Discard letters. Raises `CapabilityError` for `resolved`: nobody would remember it."""
        if state is not LetterState.DISCARDED:
            raise CapabilityError(
                "nothing is remembered with none://: a dead letter can only be discarded"
            )
        letters = await self.search(
            LetterFilter(ids=job_ids), now=now, limit=len(job_ids), after=None
        )
        keys = {letter.job_id: (letter.queue, (letter.job_id, letter.epoch)) for letter in letters}
        answers: list[bool] = []
        for job_id in job_ids:
            queue, key = keys.get(job_id, ("", ("", 0)))
            answers.append(bool(queue) and await self._letters.discard(queue, [key]) > 0)
        return answers
