"""What the failure tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failure.processes import Spawner
from tests.services import sqs
from tests.services.postgres_server import Server, own_server
from tests.services.rabbitmq import Node, own_node
from tests.services.sqs_double import SqsDouble


@pytest.fixture(scope="session")
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Node]:
    """Yield a broker that tests may stop and kill, if they start it again."""
    with own_node() as node:
        yield node


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Yield a server that tests may stop and kill, if they start it again."""
    with own_server() as server:
        yield server


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an SQS emulator, for which any credentials will do."""
    for name, value in sqs.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return sqs.ministack()


@pytest.fixture
def double(endpoint: str) -> Iterator[SqsDouble]:
    """Yield what stands before it, and can fail."""
    with SqsDouble(endpoint) as double:
        yield double
