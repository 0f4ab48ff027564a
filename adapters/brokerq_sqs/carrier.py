"""Carries out the steps of verdicts: what is to be sent is confirmed before anything is deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from brokerq.clock import Clock
from brokerq_sqs.calls import Calls, Outcomes
from brokerq_sqs.deployment import Place
from brokerq_sqs.settling import Hold, Step

logger = logging.getLogger("brokerq.sqs")
Work = tuple[Hold, Step]


class Carrier:
    """Settles what one queue has delivered."""

    def __init__(self, calls: Calls, *, place: Place, dead: Place, clock: Clock) -> None:
        self._calls = calls
        self._place = place
        self._dead = dead
        self._clock = clock

    async def carry_out(self, work: Sequence[Work]) -> list[bool]:
        """Return for each whether it was."""
        deletes: list[int] = []
        returns: list[int] = []
        copies: list[int] = []
        letters: list[int] = []
        for number, (_, step) in enumerate(work):
            if step.send is not None:
                (letters if step.to_dead else copies).append(number)
            else:
                (deletes if step.visibility is None else returns).append(number)
        done = [False] * len(work)
        groups = [
            (deletes, self._delete),
            (returns, self._give_back),
            (copies, self._send_on),
            (letters, self._bury),
        ]
        busy = [(numbers, carry) for numbers, carry in groups if numbers]
        answers = await asyncio.gather(
            *(carry([work[number] for number in numbers]) for numbers, carry in busy)
        )
        for (numbers, _), answer in zip(busy, answers, strict=True):
            for number, ok in zip(numbers, answer, strict=True):
                done[number] = ok
        return done

    async def _delete(self, work: Sequence[Work]) -> list[bool]:
        handles = [hold.handle for hold, _ in work]
        outcomes = await self._calls.delete(self._place.url, handles, within=self._left(work))
        return self._judge("delete", outcomes)

    async def _give_back(self, work: Sequence[Work]) -> list[bool]:
        changes = [(hold.handle, step.visibility or 0) for hold, step in work]
        within = self._left(work)
        outcomes = await self._calls.change_visibility(self._place.url, changes, within=within)
        return self._judge("give back", outcomes)

    def _left(self, work: Sequence[Work]) -> float:
        """Return the seconds until the first lease ends: the message is somebody else's then."""
        return min(hold.until for hold, _ in work) - self._clock.monotonic()

    async def _send_on(self, work: Sequence[Work]) -> list[bool]:
        return await self._replace(work, self._place)

    async def _bury(self, work: Sequence[Work]) -> list[bool]:
        return await self._replace(work, self._dead)

    async def _replace(self, work: Sequence[Work], place: Place) -> list[bool]:
        entries = [step.send for _, step in work if step.send is not None]
        outcomes = await self._calls.send(place.url, entries, ordered=place.ordered)
        done = self._judge("send", outcomes)
        now = self._clock.monotonic()
        # Where the lease ended meanwhile the original stays: a copy too many, and no job too few.
        sent = [n for n, (hold, _) in enumerate(work) if done[n] and now < hold.until]
        deleted = await self._delete([work[n] for n in sent]) if sent else []
        gone = dict(zip(sent, deleted, strict=True))
        return [gone.get(n, False) for n in range(len(work))]

    def _judge(self, action: str, outcomes: Outcomes) -> list[bool]:
        failures = [failure for failure in outcomes if failure is not None]
        if failures:
            reasons = "; ".join(sorted({failure.reason for failure in failures}))
            logger.warning(
                "could not %s %d of %d messages of %s, they will be delivered again: %s",
                action,
                len(failures),
                len(outcomes),
                self._place.name,
                reasons,
            )
        return [failure is None for failure in outcomes]
