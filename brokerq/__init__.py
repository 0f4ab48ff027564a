"""Background jobs that behave the same on every broker; one URL chooses it.

The names are imported when they are first used, so that the command line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerq.app import BrokerQ
    from brokerq.catalogue import Letter, LetterFilter, LetterState
    from brokerq.context import Context
    from brokerq.engine.report import Report
    from brokerq.errors import BrokerqError
    from brokerq.handle import JobHandle
    from brokerq.hooks import Event
    from brokerq.job import Job
    from brokerq.outcome import Drop, Reject, RetryAfter, Snooze
    from brokerq.record import CancelAnswer, State
    from brokerq.retry import RetryPolicy
    from brokerq.runtime import Limits
    from brokerq.store import JobFilter, JobView

_HOMES = {
    "BrokerQ": "app",
    "BrokerqError": "errors",
    "CancelAnswer": "record",
    "Context": "context",
    "Drop": "outcome",
    "Event": "hooks",
    "Job": "job",
    "JobFilter": "store",
    "JobHandle": "handle",
    "JobView": "store",
    "Letter": "catalogue",
    "LetterFilter": "catalogue",
    "LetterState": "catalogue",
    "Limits": "runtime",
    "Reject": "outcome",
    "Report": "engine.report",
    "RetryAfter": "outcome",
    "RetryPolicy": "retry",
    "Snooze": "outcome",
    "State": "record",
}

__all__ = [
    "BrokerQ",
    "BrokerqError",
    "CancelAnswer",
    "Context",
    "Drop",
    "Event",
    "Job",
    "JobFilter",
    "JobHandle",
    "JobView",
    "Letter",
    "LetterFilter",
    "LetterState",
    "Limits",
    "Reject",
    "Report",
    "RetryAfter",
    "RetryPolicy",
    "Snooze",
    "State",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
