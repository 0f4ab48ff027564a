"""Sets up logging: only the command line does, the library itself prints nothing."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

LogFormat = Literal["human", "json"]
LEVELS = ("debug", "info", "warning", "error")


def configure_logs(*, log_format: LogFormat | None, level: str) -> LogFormat:
    """Write log lines to stderr: for people on a terminal, as JSON otherwise.

    The root logger gets the same lines, so that handlers' own are seen; unless the app's module
    sets it up itself. Returns the format that was chosen.
    """
    from structlog.stdlib import ProcessorFormatter

    if log_format is None:
        log_format = "human" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler()
    handler.setFormatter(ProcessorFormatter(**_processors(log_format)))
    handler.set_name("brokerq")
    for logger in (logging.getLogger("brokerq"), logging.getLogger()):
        for old in [each for each in logger.handlers if each.get_name() == "brokerq"]:
            logger.removeHandler(old)
    own = logging.getLogger("brokerq")
    own.addHandler(handler)
    own.setLevel(level.upper())
    own.propagate = False
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(level.upper())
    return log_format


def _processors(log_format: LogFormat) -> dict[str, object]:
    import structlog
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
