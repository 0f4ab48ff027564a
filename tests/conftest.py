"""What every test may need."""

import signal
from collections import Counter
from importlib import import_module
from typing import Any

import pytest

from tests.dealing import place_of, scope_of
from tests.services.availability import MISSING


def pytest_configure() -> None:
    """Have SIGINT end what is started here, though a script that runs tests beside ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Deal out scopes of our own where scopes are asked for."""
    if config.getoption("dist") != "loadscope":
        return None
    scheduling: Any = import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    scheduling._split_scope = scope_of  # noqa: SLF001 - as its documentation says
    return scheduling


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests by their scopes, which are dealt out in this order."""
    seed: Any = config.getoption("randomly_seed", 0)
    items.sort(key=lambda item: place_of(item.nodeid, seed))


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
