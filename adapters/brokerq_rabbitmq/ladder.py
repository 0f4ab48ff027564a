"""How a delay is made of queues that messages leave after a fixed time. Pure.

A delay is a number of ticks, and a number is a sum of powers of two: for each there is a queue
whose messages expire after that many ticks. A message enters at its highest bit and falls from rung
to rung. The routing key tells the way: a word for each bit, the highest first, then queue and
level.
"""

from __future__ import annotations

from datetime import timedelta

TICK = timedelta(milliseconds=50)
RUNGS = 16
LIMIT = 1 << RUNGS
LONGEST = timedelta(minutes=54)
"""A little less than all rungs together; the core adds up longer delays."""
_SIGNIFICANT = 3


def ticks(delay: timedelta) -> int:
    """Return the ticks that a publish waits: at least the delay, less than a tick more."""
    return -(-delay // TICK)


def rough_ticks(delay: timedelta) -> int:
    """Return the ticks that a retry waits: at least the delay, at most a quarter more.

    Three significant bits are at most three rungs, and each rung is work for the broker.
    """
    exact = min(ticks(delay), LIMIT - 1)
    shift = max(0, exact.bit_length() - _SIGNIFICANT)
    rounded = -(-exact >> shift) << shift
    return rounded if rounded < LIMIT else exact


def entry_rung(count: int) -> int:
    """Return the rung that a delay of so many ticks begins with."""
    return count.bit_length() - 1


def routing_key(count: int, queue: str, level: str) -> str:
    """Return the key that leads through the rungs to the lane."""
    return ".".join((*f"{count:0{RUNGS}b}", word(queue), word(level)))


def takes(rung: int, queue: str) -> str:
    """Return the pattern of keys that a queue's rung is for."""
    return f"{_before(rung)}1.{'*.' * rung}{word(queue)}.*"


def skips(rung: int) -> str:
    """Return the pattern of keys that pass a rung by."""
    return f"{_before(rung)}0.#"


def arrives(queue: str, level: str) -> str:
    """Return the pattern of keys that lead to a lane."""
    return f"#.{word(queue)}.{word(level)}"


def belongs(queue: str) -> str:
    """Return the pattern of keys that lead to any lane of a queue."""
    return f"#.{word(queue)}.*"


def time_to_live(rung: int) -> timedelta:
    """Return for how long messages stay on a rung."""
    return TICK * (1 << rung)


def word(name: str) -> str:
    """Return a name as one word of a key: a dot would end it, and no name has a slash."""
    return name.replace(".", "/")


def _before(rung: int) -> str:
    return "*." * (RUNGS - 1 - rung)
