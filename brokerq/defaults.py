"""Every default, in one table."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

QUEUE: Final = "default"
TIMEOUT: Final = timedelta(minutes=5)
"""For how long a handler may run; no limit has to be asked for with `timeout=None`."""

MAX_ATTEMPTS: Final = 3
BACKOFF: Final = "exponential"
FACTOR: Final = 2.0
INITIAL_DELAY: Final = timedelta(seconds=1)
MAX_DELAY: Final = timedelta(minutes=10)
JITTER: Final = "full"
MAX_CRASHES: Final = 3
MAX_AGE: Final = timedelta(days=4)
WINDOW: Final = timedelta(days=5)
"""For how long a success holds its key: `max_age` and what the broker may still redeliver."""

LEASE: Final = timedelta(seconds=30)
RENEWALS_PER_LEASE: Final = 3
"""A lease is renewed when this fraction of it has passed."""

MAX_RESULT_BYTES: Final = 256 * 1024
RESULT_RETENTION: Final = timedelta(hours=24)
FINISHED_RETENTION: Final = timedelta(hours=24)
"""For how long an ended job is shown whole; what the rules need is kept for the whole window."""
FINISHED_LIMIT: Final = 100_000
DEAD_RETENTION: Final = timedelta(days=30)
UNKNOWN_JOB_WAIT: Final = timedelta(minutes=10)
"""For how long a job that no worker knows waits for one that does."""

CONCURRENCY: Final = 10
GRACE: Final = timedelta(seconds=25)
"""For how long running jobs may go on after the worker was asked to stop."""
