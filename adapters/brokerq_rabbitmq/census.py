"""What workers hold: AMQP tells nobody, so the workers are asked.

Every process that consumes listens on a queue of its own at an exchange of the app, and is counted
by a queue that nobody sends anything to. Who wants to know publishes a question and waits for as
many answers as there are listeners.

Questions and answers are published, so they go over the connection for publishing: a broker that is
short of memory or disk blocks a connection with the first publish, acknowledgements and all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import NamedTuple, cast

from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq.client import Channel, Link
from brokerq_rabbitmq.connection import Connection
from brokerq_rabbitmq.topology import Names
from brokerq_rabbitmq.wire import Received

logger = logging.getLogger("brokerq.rabbitmq")

REPLY_TO = "amq.rabbitmq.reply-to"
_PATIENCE = 1.0
"""Seconds to wait for answers; who is silent is taken to hold something."""


class Share(NamedTuple):
    """What a process has of one queue.

    Attributes:
        held: Delivered and not settled.
        unread: Pushed by the broker, and not received by anybody yet.
    """

    held: int
    unread: int


Report = Callable[[], Mapping[str, Share]]


class Census:
    """Answers for one process, over the connection for publishing."""

    def __init__(self, names: Names, report: Report, sending: Connection) -> None:
        self._names = names
        self._report = report
        self._sending = sending
        self._token = secrets.token_hex(8)
        self._channel: Channel | None = None
        self._telling: Channel | None = None
        self._turn = asyncio.Lock()
        self._answers: set[asyncio.Task[None]] = set()

    async def join(self, link: Link) -> None:
        """Listen, unless this process does already."""
        async with self._turn:
            if self._channel is not None and self._channel.alive:
                return
            channel = await link.channel()
            try:
                await self._listen(channel)
            except BaseException:
                await asyncio.shield(channel.close())  # half a listener answers uncounted
                raise
            self._channel = channel

    async def _listen(self, channel: Channel) -> None:
        own = self._names.listener(secrets.token_hex(8))
        await channel.lock(own)
        await channel.bind_queue(own, self._names.census, "")
        await channel.consume(
            own,
            tag="questions",
            prefetch=0,
            no_ack=True,
            on_message=self._hear,
            on_cancel=_ignore,
        )
        await channel.consume(
            self._names.listeners,
            tag="presence",
            prefetch=0,
            no_ack=True,
            on_message=_ignore,
            on_cancel=_ignore,
        )

    def _hear(self, question: Received) -> None:
        if question.reply_to is not None:
            answer = json.dumps([self._token, self._report()]).encode()
            self._begin(self._answer(question.reply_to, answer))

    async def _answer(self, to: str, answer: bytes) -> None:
        async with asyncio.timeout(_PATIENCE):
            link = await self._sending.link()
            await link.until_unblocked()
            if self._telling is None or not self._telling.alive:
                self._telling = await link.channel()
            await self._telling.tell("", to, answer)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        async def attempt() -> None:
            try:
                await work
            except (ConnectionLostError, TimeoutError) as exc:
                logger.debug("could not say what is held here: %s", exc)

        task = asyncio.ensure_future(attempt())
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)


def _ignore(_: object) -> None:
    """Take no notice: the channel's end says enough."""


async def ask(reading: Link, sending: Link, names: Names) -> list[Mapping[str, Share] | None]:
    """Return what each process that consumes has; None for one that does not answer in time."""
    channel = await reading.channel()
    try:
        _, listeners = await channel.count(names.listeners)
    finally:
        await channel.close()
    answers: dict[str, Mapping[str, Share]] = {}
    if listeners:
        try:
            async with asyncio.timeout(_PATIENCE):
                await _collect(sending, names, answers, listeners)
        except TimeoutError:
            logger.warning("%d of %d workers do not answer", listeners - len(answers), listeners)
    return [*answers.values(), *[None] * (listeners - len(answers))]


async def _collect(
    link: Link, names: Names, answers: dict[str, Mapping[str, Share]], wanted: int
) -> None:
    """Ask, and add the answers, one of each process, until there are as many as are wanted."""
    complete = asyncio.Event()

    def hear(answer: Received) -> None:
        token, shares = _read(answer.body)
        answers[token] = shares
        if len(answers) >= wanted:
            complete.set()

    await link.until_unblocked()
    channel = await link.channel()
    try:
        await channel.consume(
            REPLY_TO, tag="answers", prefetch=0, no_ack=True, on_message=hear, on_cancel=_ignore
        )
        await channel.tell(names.census, "", b"", reply_to=REPLY_TO)
        await complete.wait()
    finally:
        await channel.close()


def _read(body: bytes) -> tuple[str, dict[str, Share]]:
    """Return the token of the process that answers, and what it has."""
    token, shares = cast("tuple[str, dict[str, tuple[int, int]]]", json.loads(body))
    return token, {queue: Share(*share) for queue, share in shares.items()}
