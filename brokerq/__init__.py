"""Background jobs that behave the same on every broker; one URL chooses it."""

from brokerq.app import BrokerQ
from brokerq.catalogue import Letter, LetterFilter, LetterState
from brokerq.context import Context
from brokerq.engine.worker import Report
from brokerq.errors import BrokerqError
from brokerq.handle import JobHandle
from brokerq.hooks import Event
from brokerq.job import Job
from brokerq.outcome import Drop, Reject, RetryAfter, Snooze
from brokerq.record import CancelAnswer, State
from brokerq.retry import RetryPolicy
from brokerq.runtime import Limits
from brokerq.store import JobFilter, JobView

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
