"""What every test may need."""

from collections import Counter

import pytest

from tests.services.availability import MISSING


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what did not run for want of a service, however green the rest is."""
    skipped: list[pytest.TestReport] = terminalreporter.stats.get("skipped", [])
    untested = Counter(
        report.longrepr[2].partition(MISSING)[2]
        for report in skipped
        if isinstance(report.longrepr, tuple) and MISSING in report.longrepr[2]
    )
    for service, count in sorted(untested.items()):
        terminalreporter.write_line(f"NOT TESTED ({count}): {service}", yellow=True, bold=True)
