"""What is declared in memory, and how it differs from what an app wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from brokerq.broker import QueueSpec


def differences(
    wanted: Sequence[QueueSpec], there: Mapping[str, QueueSpec], *, create: bool
) -> Iterator[str]:
    """Say, one sentence each, what is not as wanted. A lease may change."""
    for spec in wanted:
        found = there.get(spec.name)
        if found is None:
            if not create:
                yield f"queue {spec.name!r} is not there"
            continue
        if set(found.levels) != set(spec.levels):
            yield (
                f"queue {spec.name!r} has the levels {', '.join(found.levels)}, "
                f"the app declares {', '.join(spec.levels)}"
            )
        if found.ordered != spec.ordered:
            yield (
                f"queue {spec.name!r} is {'' if found.ordered else 'not '}ordered, "
                f"the app declares that it is{'' if spec.ordered else ' not'}"
            )
