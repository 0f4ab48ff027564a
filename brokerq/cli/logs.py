"""Sets up logging: only the command line does, the library itself prints nothing."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from structlog.stdlib import ProcessorFormatter

LogFormat = Literal["human", "json"]
Level = Literal["debug", "info", "warning", "error"]
FORMATS: tuple[LogFormat, ...] = ("human", "json")
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
_NAME = "brokerq"


def choose_format(log_format: LogFormat | None) -> LogFormat:
    """Return the format asked for, else what suits stderr: people read terminals."""
    return log_format or ("human" if sys.stderr.isatty() else "json")


def configure_logs(*, log_format: LogFormat, level: str) -> None:
    """Write log lines to stderr.

    Call it after the app's module was imported: where that set up the root logger nothing of it is
    changed, otherwise what handlers log themselves goes the same way.
    """
    handler = logging.StreamHandler()
    handler.set_name(_NAME)
    handler.setFormatter(_formatter(log_format))
    own, root = logging.getLogger("brokerq"), logging.getLogger()
    for logger in (own, root):
        for old in [each for each in logger.handlers if each.get_name() == _NAME]:
            logger.removeHandler(old)
    own.addHandler(handler)
    own.setLevel(level.upper())
    own.propagate = False
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(level.upper())


def _formatter(log_format: LogFormat) -> ProcessorFormatter:
    from structlog import dev, processors, stdlib
    from structlog.typing import Processor

    first: list[Processor] = [
        stdlib.add_log_level,
        stdlib.add_logger_name,
        stdlib.ExtraAdder(),
        processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if log_format == "json":
        last = [processors.format_exc_info, processors.JSONRenderer()]
    else:
        colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        last = [dev.ConsoleRenderer(0, colors=colors, exception_formatter=dev.plain_traceback)]
    return stdlib.ProcessorFormatter(
        foreign_pre_chain=first,
        processors=[stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
