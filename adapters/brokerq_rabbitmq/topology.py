"""What an app needs in RabbitMQ: names, arguments, and what a refusal to declare says. Pure.

A colon stands where no name of ours has one, so that no two things of two apps share a name. For
the app `shop`:

| name | what it is |
| --- | --- |
| `shop:mail:normal` | a lane: quorum queue of the level `normal` of `mail` |
| `shop:mail.dead` | the dead letters of `mail` |
| `shop:mail.crashed` | what RabbitMQ itself made dead letters of, until that is judged |
| `shop:mail.delay.0` to `.15` | the rungs of the ladder, on which delayed messages wait |
| `shop:delay.0` to `.15` | exchanges that lead to the rungs of all queues |
| `shop:census`, `shop:workers` | by these workers are asked what they hold |
| `shop:due` | exchange that leads from the last rung to the lanes |
| `shop:crashed` | exchange that leads there, from lanes and from `shop:due` |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from brokerq.broker import QueueSpec
from brokerq.errors import CapabilityError
from brokerq.topology import Difference, Resource
from brokerq_rabbitmq import ladder

DELIVERY_LIMIT = 50
"""After so many returns RabbitMQ takes a message for one that kills whoever gets it. Below 4.3 each
message that a worker held when it was stopped is one return nearer to it."""
NO_LIMIT = 2**31 - 1
"""Without a limit of their own queues get one of 20 from 4.0 on, and before that what is given back
goes to the end of the queue."""
MOST_LEVELS = 20
MARK = "x-dead-letter-routing-key"
"""On a `.dead` queue, which never dead-letters anything, this says which levels the queue has: the
one argument whose text RabbitMQ compares and otherwise makes no use of."""
_LEVELS = "levels"
_UNKNOWN_LEVELS = "?"

Arguments = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A queue, an exchange or a binding.

    Attributes:
        kind: `queue`, `exchange`, or for a binding what it leads to: `queue binding` or
            `exchange binding`.
        type: Of an exchange.
        source: Of a binding: the exchange that it begins at.
        key: Of a binding.
    """

    kind: str
    name: str
    arguments: Arguments = field(default_factory=dict[str, str | int])
    type: str = ""
    source: str = ""
    key: str = ""

    def resource(self) -> Resource:
        """Return it as `brokerq topology` shows it."""
        settings = {"type": self.type} if self.type else {}
        if self.source:
            settings |= {"source": self.source, "routing key": self.key}
        settings |= {name: str(value) for name, value in self.arguments.items()}
        return Resource(kind=self.kind, name=self.name, settings=settings)


@dataclass(frozen=True, slots=True)
class Names:
    """What things of one app are called."""

    prefix: str

    def lane(self, queue: str, level: str) -> str:
        """Return the queue of one level."""
        return f"{self.prefix}:{queue}:{level}"

    def dead(self, queue: str) -> str:
        """Return the queue of the dead letters."""
        return f"{self.prefix}:{queue}.dead"

    def crashed(self, queue: str) -> str:
        """Return the queue of what the broker gave up on."""
        return f"{self.prefix}:{queue}.crashed"

    def letters(self, queue: str) -> tuple[str, str]:
        """Return the queues that have dead letters, judged and not."""
        return self.dead(queue), self.crashed(queue)

    def rung(self, queue: str, rung: int) -> str:
        """Return a queue of the ladder."""
        return f"{self.prefix}:{queue}.delay.{rung}"

    def lock(self, queue: str) -> str:
        """Return the queue that exists while somebody reads the dead letters."""
        return f"{self.prefix}:{queue}.reading"

    def step(self, rung: int) -> str:
        """Return the exchange before a rung; below the last one, that to the lanes."""
        return f"{self.prefix}:delay.{rung}" if rung >= 0 else f"{self.prefix}:due"

    @property
    def due(self) -> str:
        """The exchange to the lanes."""
        return self.step(-1)

    def listener(self, name: str) -> str:
        """Return the queue on which a worker is asked what it holds."""
        return f"{self.prefix}:census.{name}"

    @property
    def listeners(self) -> str:
        """The queue whose consumers are the workers that can be asked."""
        return f"{self.prefix}:workers"

    @property
    def census(self) -> str:
        """The exchange to all workers."""
        return f"{self.prefix}:census"

    @property
    def crashes(self) -> str:
        """The exchange to what RabbitMQ itself makes dead letters of."""
        return f"{self.prefix}:crashed"


def plan_app(names: Names) -> Iterator[Thing]:
    """Return what all queues of an app share, in the order of creation."""
    yield Thing(kind="exchange", name=names.census, type="fanout")
    yield Thing(kind="queue", name=names.listeners, arguments=_quorum(NO_LIMIT))
    yield Thing(kind="exchange", name=names.crashes, type="topic")
    yield Thing(
        kind="exchange",
        name=names.due,
        type="topic",
        # What is due to a lane that is gone would keep everything behind it from leaving the rung.
        arguments={"alternate-exchange": names.crashes},
    )
    for rung in range(ladder.RUNGS):
        yield Thing(kind="exchange", name=names.step(rung), type="topic")
        yield Thing(
            kind="exchange binding",
            name=names.step(rung - 1),
            source=names.step(rung),
            key=ladder.skips(rung),
        )


def plan_queue(names: Names, spec: QueueSpec) -> Iterator[Thing]:
    """Return what one queue needs besides, the dead letters first: they say which levels it has.

    Raises `CapabilityError`.
    """
    if spec.ordered:
        raise CapabilityError(
            f"queue {spec.name!r} is to be ordered, and RabbitMQ keeps no order when messages come "
            "back or a consumer changes"
        )
    queue = spec.name
    if len(spec.levels) > MOST_LEVELS:
        raise CapabilityError(
            f"queue {queue!r} has {len(spec.levels)} priority levels, each a queue of its own in "
            f"RabbitMQ: at most {MOST_LEVELS}"
        )
    yield _dead(names, queue, spec.levels)
    crashed = names.crashed(queue)
    yield Thing(kind="queue", name=crashed, arguments=_quorum(NO_LIMIT))
    yield _binding(crashed, names.crashes, ladder.belongs(queue))
    for level in spec.levels:
        lane = names.lane(queue, level)
        key = f"{ladder.word(queue)}.{ladder.word(level)}"
        yield Thing(
            kind="queue",
            name=lane,
            arguments=_quorum(DELIVERY_LIMIT) | _dead_lettering(names.crashes, key),
        )
        yield _binding(lane, names.due, ladder.arrives(queue, level))
    for rung in range(ladder.RUNGS):
        name = names.rung(queue, rung)
        ttl = round(ladder.time_to_live(rung).total_seconds() * 1_000)
        yield Thing(
            kind="queue",
            name=name,
            arguments={
                **_quorum(NO_LIMIT),
                "x-message-ttl": ttl,
                **_dead_lettering(names.step(rung - 1)),
            },
        )
        yield _binding(name, names.step(rung), ladder.takes(rung, queue))


def levels_probe(names: Names, queue: str) -> Thing:
    """Return the `.dead` queue as it never is: its refusal says which levels there are."""
    return _dead(names, queue, (_UNKNOWN_LEVELS,))


def _dead(names: Names, queue: str, levels: Sequence[str]) -> Thing:
    marked = {"x-dead-letter-exchange": "", MARK: ",".join(sorted(levels))}
    return Thing(kind="queue", name=names.dead(queue), arguments=_quorum(NO_LIMIT) | marked)


def _quorum(limit: int) -> dict[str, str | int]:
    return {"x-queue-type": "quorum", "x-delivery-limit": limit}


def _dead_lettering(exchange: str, key: str | None = None) -> dict[str, str | int]:
    """Return what keeps a message until the next queue has confirmed it.

    At-least-once silently becomes at-most-once without reject-publish.
    """
    keyed = {} if key is None else {"x-dead-letter-routing-key": key}
    return {
        "x-dead-letter-exchange": exchange,
        **keyed,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _binding(queue: str, exchange: str, key: str) -> Thing:
    return Thing(kind="queue binding", name=queue, source=exchange, key=key)


_INEQUIVALENT = re.compile(r"inequivalent arg '(?P<setting>[^']+)' for (?:queue|exchange) ")
_SAYS = r"(?:'(?P<{0}>.*?)'|the value '(?P<{0}_value>.*?)' of type '[^']*'|(?P<{0}_none>none))"
_VALUES = re.compile(
    r"received " + _SAYS.format("wanted") + r" but current is " + _SAYS.format("actual") + r"$",
    re.DOTALL,
)
_CUT = re.compile(r" but current is (?:the value )?'(?P<actual>.*)$", re.DOTALL)


def read_refusal(thing: Thing, text: str) -> Difference:
    """Return what a refusal with code 406 says is different; the text is cut after 255 bytes."""
    found = _INEQUIVALENT.search(text)
    if found is None:
        return Difference(
            kind=thing.kind,
            name=thing.name,
            setting="declaration",
            wanted="as planned",
            actual=text,
        )
    setting = found["setting"]
    planned = thing.arguments.get(setting)
    wanted = thing.type if setting == "type" else None if planned is None else str(planned)
    values = _VALUES.search(text)
    if values is not None:
        actual = values["actual"] if values["actual"] is not None else values["actual_value"]
        if wanted is None and values["wanted"] is not None:  # durable, for one
            wanted = values["wanted"]
    else:
        cut = _CUT.search(text)
        actual = "?" if cut is None else f"{cut['actual']}…"
    is_mark = setting == MARK and thing.name.endswith(".dead")
    return Difference(
        kind=thing.kind,
        name=thing.name,
        setting=_LEVELS if is_mark else setting,
        wanted=wanted,
        actual=actual,
    )


def read_levels(difference: Difference) -> tuple[str, ...] | None:
    """Return the levels that the refusal of a probe tells; None: it does not tell them whole."""
    actual = difference.actual
    if difference.setting != _LEVELS or actual is None or actual.endswith("…"):
        return None
    return tuple(actual.split(","))


def permissions(names: Names, queues: Sequence[QueueSpec]) -> dict[str, str]:
    """Return the least rights of each role, as arguments of `rabbitmqctl set_permissions`.

    To look whether a queue is there needs none before 4.2.6, and since 4.3.1 any right to it (issue
    16272 there): where no other is needed it is that to write, which without one to read exchanges
    allows nothing more. To learn which levels it has takes a declaration.
    """
    app = re.escape(names.prefix)
    of_queues = "|".join(re.escape(spec.name) for spec in queues)
    steps = rf"{app}:(delay\.[0-9]+|due)"
    lanes = rf"{app}:({of_queues}):[^:]+"
    dead = rf"{app}:({of_queues})\.(dead|crashed)"
    rungs = rf"{app}:({of_queues})\.delay\.[0-9]+"
    workers = rf"{app}:workers"
    declared = rf"{app}:({of_queues})\.(dead|reading)"
    question = rf"{app}:census"
    listeners = rf"{app}:census\.[0-9a-f]+"
    publish = rf"amq\.default|{steps}"
    return {
        "producer": _rights(
            configure="", write=f"{publish}|{lanes}|{dead}|{rungs}|{workers}", read=""
        ),
        "consumer": _rights(
            configure=f"{declared}|{listeners}",
            write=f"{publish}|{rungs}|{question}|{listeners}",
            read=f"{lanes}|{dead}|{question}|{listeners}|{workers}",
        ),
        "operator": _rights(configure=declared, write=f"{publish}|{question}", read=f"{app}:.*"),
        # The queues of dead letters name the default exchange as the one for theirs.
        "deployer": _rights(
            configure=f"{app}:.*", write=rf"amq\.default|{app}:.*", read=f"{app}:.*"
        ),
    }


def _rights(*, configure: str, write: str, read: str) -> str:
    return " ".join(f'"^({rights})$"' if rights else '"^$"' for rights in (configure, write, read))
