"""What differs between versions of RabbitMQ, in one place. Pure.

Measured on 3.10.8, 4.0.5 and 4.3.6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OLDEST = (3, 10)
_NACKS_ARE_FREE = (4, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What one broker does.

    Attributes:
        nack_counts: Whether a message that was given back counts towards the delivery limit.
    """

    text: str
    number: tuple[int, int]
    nack_counts: bool

    @property
    def supported(self) -> bool:
        """Whether this adapter was made for it."""
        return self.number >= OLDEST


def read_version(text: str) -> Version:
    """Return what is known of the version that the broker names when it is connected to."""
    found = re.match(r"(\d+)\.(\d+)", text)
    major, minor = (int(found[1]), int(found[2])) if found else (0, 0)
    number = (major, minor)
    return Version(text=text, number=number, nack_counts=number < _NACKS_ARE_FREE)
