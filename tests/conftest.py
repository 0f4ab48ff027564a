"""What every test may need."""

import os
from collections import Counter
from typing import NoReturn

import pytest

_MISSING = "service missing: "


def require_service(name: str, reason: str) -> NoReturn:
    """Give up on a test whose service cannot be reached.

    Call it once the service is known to be missing. On a laptop the test is skipped; where `CI`
    is set it fails, so that a broken pipeline cannot pass for a green one.

    Args:
        name: The service as a person knows it, such as "RabbitMQ".
        reason: What was tried and how to start the service.
    """
    message = f"{_MISSING}{name}: {reason}"
    if os.environ.get("CI", "").lower() not in {"", "0", "false"}:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what did not run for want of a service, however green the rest is."""
    skipped: list[pytest.TestReport] = terminalreporter.stats.get("skipped", [])
    untested = Counter(
        report.longrepr[2].partition(_MISSING)[2]
        for report in skipped
        if isinstance(report.longrepr, tuple) and _MISSING in report.longrepr[2]
    )
    for service, count in sorted(untested.items()):
        terminalreporter.write_line(f"NOT TESTED ({count}): {service}", yellow=True, bold=True)
