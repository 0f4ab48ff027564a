"""What a handler logs: to the standard logger, and kept with the job's record."""

from __future__ import annotations

import logging
from collections import deque
from datetime import UTC, datetime

from brokerq.redaction import NOTHING, Hider

LINES = 1000
LINE_LIMIT = 4096


class JobLog:
    """A small logger whose lines are kept with the job's record.

    The newest 1,000 lines of an attempt are kept, each cut at 4,096 characters. Fields are written
    as `name=value`. Whether a line also reaches a log file is up to the program's own set-up of the
    logger `brokerq.job`; it is kept either way, from level INFO on.
    """

    __slots__ = ("_attempt", "_hide", "_job", "_job_id", "_lines", "_logger")

    def __init__(
        self,
        logger: logging.Logger,
        *,
        job_id: str,
        job: str,
        attempt: int,
        hide: Hider = NOTHING,
    ) -> None:
        self._logger = logger
        self._job_id = job_id
        self._job = job
        self._attempt = attempt
        self._hide = hide
        self._lines: deque[str] | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines kept so far, oldest first."""
        return () if self._lines is None else tuple(self._lines)

    def debug(self, event: str, **fields: object) -> None:
        """Log at DEBUG; not kept."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log at INFO."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log at WARNING."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log at ERROR."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, object]) -> None:
        shown = (f"{name}={self._hide.field(name, value)!r}" for name, value in fields.items())
        text = self._hide(" ".join([event, *shown]))
        if level >= logging.INFO:
            if self._lines is None:
                self._lines = deque(maxlen=LINES)
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = f"{at} {logging.getLevelName(level).lower()} {text}"
            # Half a surrogate pair, which Python's text may hold, is no text for a store.
            kept = line[:LINE_LIMIT].encode("utf-8", "backslashreplace").decode()
            self._lines.append(kept)
        extra = {"job_id": self._job_id, "job": self._job, "attempt": self._attempt}
        self._logger.log(level, "%s", text, extra=extra)
