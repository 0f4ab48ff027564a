"""What travels: headers and a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Message:
    """Headers and a body; brokers see nothing else.

    Nobody changes one; it is not frozen because that would double the time that making it takes.

    Attributes:
        headers: Text by name. Names that begin with `bq-` are brokerq's, `x-` is not used, all
            others are the user's.
        body: The JSON object of the job's arguments, as bytes; opaque to adapters.
    """

    headers: Mapping[str, str]
    body: bytes
