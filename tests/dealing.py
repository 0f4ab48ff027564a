"""How tests are dealt out to the workers of a run: `pytest -n 6 --dist=loadscope`, as make does.

Files go to a worker as a whole, so that what a fixture sets up for a module is set up once. Long
files whose tests have nothing in common go test by test. What may kill a server of its own is kept
together, so that only one worker starts that server. A scope is one such portion.
"""

from __future__ import annotations

import re
from zlib import crc32

APART = {
    "contract/test_rabbitmq_broker",
    "contract/test_sqlite_store",
    "contract/test_sqs_broker",
    "failure/test_clock",
    "failure/test_kill_on_servers",
    "failure/test_sqs_calls",
    "failure/test_sqs_worker",
    "live/test_cli_supervisor",
    "live/test_cli_worker",
    "live/test_demo_brokers",
    "live/test_rabbitmq_outbox",
    "live/test_sqs_lambda",
    "live/test_sqs_running",
    "live/test_sqs_script",
    "test_docs",
    "unit/test_model",
}
TOGETHER = {
    "a RabbitMQ": re.compile(r"failure/test_(rabbitmq_(?!timeout)|kill_on_servers.*\[rabbitmq)"),
    "a PostgreSQL": re.compile(
        r"failure/test_(postgres_(network|server|worker)|kill_on_servers.*\[postgresql)"
    ),
}
"""The tests with the fixtures `rabbit` and `postgres`."""
QUICK = ("story/", "unit/test_")


def scope_of(node: str) -> str:
    """Return the scope of a test, by the id of its node."""
    inside = node.removeprefix("tests/")
    for name, tests in TOGETHER.items():
        if tests.match(inside):
            return name
    file = inside.partition(".py::")[0]
    return inside if file in APART else file


def place_of(node: str, seed: int) -> tuple[int, int]:
    """Return what to sort a test by: scopes are in an order at random, some of them first or last.

    What kills servers takes longest, so it is first. Quick files are last, so that in the end
    nobody is alone with something long.
    """
    scope = scope_of(node)
    quick = scope.startswith(QUICK) and "::" not in scope
    rank = 0 if scope in TOGETHER else 2 if quick else 1
    return rank, crc32(f"{seed}::{scope}".encode())
