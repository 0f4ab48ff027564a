"""What an app's queues are in SQS: names, attributes, and what differs. Pure.

| brokerq | name in SQS |
| --- | --- |
| queue `mail` of the app `shop` | `shop__mail` |
| its level `high` | `shop__mail__high`; `normal` is the one above |
| its dead letters, of all levels | `shop__mail-dead` |
| an ordered queue | the same with `.fifo` at the end |

A dot in a name becomes `-_-`. No two queues share a name, whatever their apps are called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from brokerq.broker import QueueSpec, QueueStats
from brokerq.errors import CapabilityError
from brokerq.topology import Difference, Resource
from brokerq_sqs.wire import seconds

MAX_LEVELS = 10
"""As many queues may share dead letters: the limit of a RedriveAllowPolicy."""
MAX_RECEIVES = 25
"""Receives after which SQS itself puts a message among the dead letters."""
MAX_RECEIVES_ORDERED = 1_000
"""SQS's most: a copy would lose its place, so that the limit is out of the way instead."""
LONGEST_LEASE = timedelta(hours=12)
KIND = "queue"
DEAD = "-dead"
FIFO = ".fifo"
_NORMAL = "normal"
_APART = "__"
_DOT = "-_-"
_LONGEST_NAME = 80
_RETENTION = "1209600"  # 14 days, the longest there is
_MAX_SIZE = "1048576"
_READY = "ApproximateNumberOfMessages"
_IN_FLIGHT = "ApproximateNumberOfMessagesNotVisible"
_DELAYED = "ApproximateNumberOfMessagesDelayed"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(_[A-Za-z0-9][A-Za-z0-9.-]*)*")
_UNFIT = re.compile(r"[.-]_")

Attributes = dict[str, str]
Found = Mapping[str, Attributes | None]
"""Attributes by queue name; None: there is no such queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One queue in SQS as it should be.

    Attributes:
        attributes: All but the redrive policies, which need the queues' addresses.
    """

    name: str
    attributes: Attributes
    tags: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one queue of the app needs.

    Attributes:
        levels: By level, in the app's order.
        other_dead: Name of the dead-letter queue that the queue would have were it (un)ordered.
    """

    spec: QueueSpec
    dead: Wanted
    levels: dict[str, Wanted]
    other_dead: str

    @property
    def names(self) -> list[str]:
        """Every queue's name, in the order of creation."""
        return [self.dead.name, *(wanted.name for wanted in self.levels.values())]


def queue_name(prefix: str, queue: str, level: str, *, ordered: bool) -> str:
    """Return the name of a level's queue. Raises `CapabilityError`."""
    if queue.endswith(DEAD):
        raise CapabilityError(
            f"queue {queue!r} cannot be had at sqs://: dead letters are in queues whose names "
            f"end with {DEAD!r}"
        )
    parts = [prefix, queue] if level == _NORMAL else [prefix, queue, level]
    return _name(parts, FIFO if ordered else "")


def dead_name(prefix: str, queue: str, *, ordered: bool) -> str:
    """Return the name of the queue of dead letters. Raises `CapabilityError`."""
    return _name([prefix, queue], DEAD + (FIFO if ordered else ""))


def _name(parts: Sequence[str], ending: str) -> str:
    for part in parts:
        if not _PART.fullmatch(part) or _UNFIT.search(part):
            raise CapabilityError(
                f"{part!r} cannot be part of a name at sqs://: it takes letters, digits, '-', '.' "
                "and, between two letters or digits, '_'"
            )
    name = _APART.join(part.replace(".", _DOT) for part in parts) + ending
    if len(name) > _LONGEST_NAME:
        raise CapabilityError(
            f"the queue's name at sqs:// would be {name!r}, of {len(name)} characters, and "
            f"{_LONGEST_NAME} are allowed: shorten the queue's name, or set prefix= in the URL"
        )
    return name


def levels(dead: Mapping[str, str]) -> list[str]:
    """Return the levels of a queue, by the attributes of its dead letters' queue."""
    sources = _policy(dead, "RedriveAllowPolicy").get("sourceQueueArns")
    if not isinstance(sources, list):
        return [_NORMAL]
    return sorted(level_of(str(each)) for each in sources)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def level_of(name: str) -> str:
    """Return the level whose queue has this name, or ARN."""
    parts = name.rpartition(":")[2].removesuffix(FIFO).split(_APART)
    return _NORMAL if len(parts) < 3 else parts[-1].replace(_DOT, ".")  # noqa: PLR2004


def plan(spec: QueueSpec, *, prefix: str, kms: str | None) -> Plan:
    """Return what the queue needs. Raises `CapabilityError` for what SQS cannot keep."""
    if len(spec.levels) > MAX_LEVELS:
        raise CapabilityError(
            f"queue {spec.name!r} has {len(spec.levels)} levels, sqs:// can keep {MAX_LEVELS}"
        )
    if spec.lease > LONGEST_LEASE:
        raise CapabilityError(f"queue {spec.name!r}: a lease at sqs:// is at most 12 hours")
    ordered = spec.ordered
    shared = {
        **_encryption(kms),
        "MessageRetentionPeriod": _RETENTION,
        "MaximumMessageSize": _MAX_SIZE,
    }
    if ordered:
        shared |= {
            "FifoQueue": "true",
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
        }
    tags = {"brokerq": prefix, "brokerq-queue": spec.name}
    return Plan(
        spec=spec,
        dead=Wanted(
            name=dead_name(prefix, spec.name, ordered=ordered),
            attributes=shared,
            tags={**tags, "brokerq-level": "dead letters"},
        ),
        levels={
            level: Wanted(
                name=queue_name(prefix, spec.name, level, ordered=ordered),
                attributes={**shared, "VisibilityTimeout": str(seconds(spec.lease))},
                tags={**tags, "brokerq-level": level},
            )
            for level in spec.levels
        },
        other_dead=dead_name(prefix, spec.name, ordered=not ordered),
    )


def _encryption(kms: str | None) -> Attributes:
    if kms is None:
        return {"SqsManagedSseEnabled": "true"}
    return {"KmsMasterKeyId": kms}


def redrive_policy(dead: str, *, ordered: bool) -> str:
    """Return the policy of a level's queue; `dead`: the ARN of the dead letters' queue."""
    most = MAX_RECEIVES_ORDERED if ordered else MAX_RECEIVES
    return json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": most})


def allow_policy(sources: Sequence[str]) -> str:
    """Return the policy of the dead letters' queue; `sources`: the ARNs of the levels' queues."""
    return json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": sorted(sources)})


def arn(name: str, *, like: str) -> str:
    """Return the ARN of a queue beside the one whose ARN is given."""
    return like.rpartition(":")[0] + ":" + name


def total(attributes: Mapping[str, str]) -> int:
    """Return how many messages a queue has, in whatever state."""
    return sum(int(attributes[name]) for name in (_READY, _IN_FLIGHT, _DELAYED))


def delayed(attributes: Mapping[str, str]) -> int:
    """Return how many messages are not yet due."""
    return int(attributes[_DELAYED])


def max_receives(attributes: Mapping[str, str]) -> int | None:
    """Return after how many receives SQS gives up on a message; None: never."""
    most = _policy(attributes, "RedrivePolicy").get("maxReceiveCount")
    return int(str(most)) if most is not None and str(most).isdigit() else None


def stats(queue: str, levels: Sequence[Mapping[str, str]], dead: Mapping[str, str]) -> QueueStats:
    """Return how a queue stands, by the attributes of its levels' queues; SQS tells no age."""
    return QueueStats(
        queue=queue,
        ready=sum(int(each[_READY]) for each in levels),
        in_flight=sum(int(each[_IN_FLIGHT]) for each in levels),
        delayed=sum(int(each[_DELAYED]) for each in levels),
        dead=total(dead),
        oldest=None,
    )


def resources(plan: Plan) -> Iterator[Resource]:
    """Return the plan for people, with names where SQS has addresses."""
    ordered = plan.spec.ordered
    sources = [wanted.name for wanted in plan.levels.values()]
    yield Resource(
        kind=KIND,
        name=plan.dead.name,
        settings={**plan.dead.attributes, "RedriveAllowPolicy": allow_policy(sources)},
    )
    for wanted in plan.levels.values():
        policy = redrive_policy(plan.dead.name, ordered=ordered)
        settings = {**wanted.attributes, "RedrivePolicy": policy}
        yield Resource(kind=KIND, name=wanted.name, settings=settings)


def differences(plan: Plan, found: Found) -> Iterator[Difference]:
    """Say what is not as planned. More time, room or tries than planned is no difference."""
    other = found.get(plan.other_dead)
    if other is not None and found[plan.dead.name] is None:
        actual, wanted = ("false", "true") if plan.spec.ordered else ("true", "false")
        yield _differs(plan.other_dead, "FifoQueue", wanted, actual)
        return
    for wanted_queue in (plan.dead, *plan.levels.values()):
        there = found[wanted_queue.name]
        if there is None:
            yield Difference(
                kind=KIND, name=wanted_queue.name, setting=None, wanted=None, actual=None
            )
            continue
        for setting, value in wanted_queue.attributes.items():
            if not _is_enough(setting, value, there):
                yield _differs(wanted_queue.name, setting, value, there.get(setting))
    yield from _redriving(plan, found)


def _differs(name: str, setting: str, wanted: str | None, actual: str | None) -> Difference:
    return Difference(kind=KIND, name=name, setting=setting, wanted=wanted, actual=actual)


_AT_LEAST = frozenset({"VisibilityTimeout", "MaximumMessageSize", "MessageRetentionPeriod"})


def _is_enough(setting: str, wanted: str, there: Mapping[str, str]) -> bool:
    actual = there.get(setting)
    if setting == "SqsManagedSseEnabled":  # a key of the user's own is as good
        return actual == wanted or bool(there.get("KmsMasterKeyId"))
    if actual is not None and setting in _AT_LEAST:
        return int(actual) >= int(wanted)
    return actual == wanted


def _redriving(plan: Plan, found: Found) -> Iterator[Difference]:
    dead = found[plan.dead.name]
    if dead is None:
        return
    sources = _policy(dead, "RedriveAllowPolicy").get("sourceQueueArns")
    if not isinstance(sources, list):
        wanted = allow_policy([wanted.name for wanted in plan.levels.values()])
        actual = dead.get("RedriveAllowPolicy")
        yield _differs(plan.dead.name, "RedriveAllowPolicy", wanted, actual)
    else:
        names = {str(each).rpartition(":")[2] for each in sources}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if names != {wanted.name for wanted in plan.levels.values()}:
            actual = ", ".join(sorted(map(level_of, names)))
            yield _differs(plan.dead.name, "levels", ", ".join(plan.spec.levels), actual)
    target = dead.get("QueueArn", "")
    for wanted_queue in plan.levels.values():
        there = found[wanted_queue.name]
        if there is None:
            continue
        most = max_receives(there)
        is_ours = _policy(there, "RedrivePolicy").get("deadLetterTargetArn") == target
        if not is_ours or most is None or most < MAX_RECEIVES:
            wanted = redrive_policy(target, ordered=plan.spec.ordered)
            yield _differs(wanted_queue.name, "RedrivePolicy", wanted, there.get("RedrivePolicy"))


def _policy(attributes: Mapping[str, str], name: str) -> dict[str, object]:
    try:
        policy: object = json.loads(attributes.get(name) or "{}")
    except ValueError:
        return {}
    return policy if isinstance(policy, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def can_mend(difference: Difference) -> bool:
    """Tell whether declaring brings about what is missing; all else is for people to change."""
    if difference.setting == "RedriveAllowPolicy":
        return difference.actual is None
    return difference.setting in {None, "VisibilityTimeout"}
