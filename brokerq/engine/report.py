"""What a worker tells when it has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from brokerq.engine.recorder import Conclusion


@dataclass(slots=True, kw_only=True)
class Report:
    """What a worker did.

    Attributes:
        outcomes: How many runs were recorded, by the state they came to.
        lost: Runs whose lease was lost before they could be recorded.
        abandoned: Jobs left running, or done and not recorded, to be taken over when their leases
            end.
    """

    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    lost: int = 0
    abandoned: int = 0

    def add(self, conclusions: Iterable[Conclusion]) -> None:
        """Count runs that were recorded, or lost."""
        for state, count in Counter([each.state for each in conclusions]).items():
            if state is None:
                self.lost += count
            else:
                name = str(state)
                self.outcomes[name] = self.outcomes.get(name, 0) + count
