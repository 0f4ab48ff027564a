"""Carries events from the engine's loop to the program's, where hooks run."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from datetime import datetime

from brokerq.catalogue import Letter
from brokerq.dead_letter import read_letter
from brokerq.definition import DeadHook
from brokerq.engine.recorder import Conclusion
from brokerq.hooks import Event, Hook, HookName, Hooks
from brokerq.outcome import Failed
from brokerq.record import BURIED, State

_END_NAMES: dict[State, HookName] = {
    State.SUCCEEDED: "succeeded",
    State.RETRYING: "retrying",
    State.DEAD: "dead",
    State.EXPIRED: "dead",
    State.CANCELLED: "cancelled",
    State.SKIPPED: "skipped",
}


class HookRunner:
    """Fires hooks in order, batch after batch; nothing is sent where nobody listens."""

    def __init__(self, hooks: Hooks, user_loop: asyncio.AbstractEventLoop) -> None:
        self._hooks = hooks
        self._user_loop = user_loop
        self._under_way: set[Future[None]] = set()
        self._turn = asyncio.Lock()  # of the program's loop; it is fair, so the order is kept

    @property
    def listening(self) -> bool:
        """Whether anybody listens to anything."""
        return self._hooks.listening

    def wants(self, name: HookName) -> bool:
        """Tell whether anybody listens."""
        return self._hooks.wants(name)

    def fire(self, events: Sequence[tuple[Event, Sequence[Hook]]]) -> None:
        """Run the listeners, and each event's own hooks, on the program's loop."""
        if events:
            future = asyncio.run_coroutine_threadsafe(self._fire(events), self._user_loop)
            self._under_way.add(future)
            future.add_done_callback(self._under_way.discard)

    async def _fire(self, events: Sequence[tuple[Event, Sequence[Hook]]]) -> None:
        async with self._turn:
            await self._hooks.fire(events)

    async def finish(self, *, within: float) -> None:
        """Wait for the hooks that run."""
        futures = [asyncio.wrap_future(future) for future in tuple(self._under_way)]
        if futures:
            await asyncio.wait(futures, timeout=within)


def conclusion_events(
    conclusion: Conclusion, *, wants: Callable[[HookName], bool], worker: str, at: datetime
) -> list[tuple[Event, Sequence[Hook]]]:
    """Return what a settled run means to those who listen: its failure, then what came of it."""
    run, state = conclusion.run, conclusion.state
    error = run.outcome.error if isinstance(run.outcome, Failed) else None
    names: list[HookName] = ["failed"] if error is not None and conclusion.decision.attempt else []
    # What is neither recorded nor settled has not ended: it will be delivered again.
    if state is not None and state in _END_NAMES and (run.recorded or conclusion.settled):
        names.append(_END_NAMES[state])
    on_dead = run.definition.on_dead if run.definition is not None else ()
    events: list[tuple[Event, Sequence[Hook]]] = []
    for name in names:
        buried = state in BURIED and name == "dead"
        if not wants(name) and not (buried and on_dead):
            continue
        event = Event(
            name=name,
            at=at,
            worker=worker,
            job_id=run.head.id,
            job=run.head.job,
            queue=run.delivery.lane.queue,
            attempt=run.claimed.attempts + conclusion.decision.attempt,
            reason=conclusion.decision.reason or conclusion.decision.note,
            error=error,
            delay=conclusion.decision.delay if state == State.RETRYING else None,
        )
        events.append((event, _own_hooks(conclusion) if buried else ()))
    return events


def _own_hooks(conclusion: Conclusion) -> Sequence[Hook]:
    definition = conclusion.run.definition
    message = conclusion.letter
    if definition is None or message is None:
        return ()
    lane = conclusion.run.delivery.lane
    letter = read_letter(message, queue=lane.queue, level=lane.level)
    return [functools.partial(_call_with, letter, hook) for hook in definition.on_dead]


def _call_with(letter: Letter, hook: DeadHook, _event: Event) -> Awaitable[None] | None:
    return hook(letter)
