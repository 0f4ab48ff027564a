"""A function of AWS Lambda with its app, and the mappings that feed it, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from brokerq_sqs.lambda_event import read_event
from brokerq_sqs.wire import unpack

from brokerq import BrokerQ, RetryPolicy, State
from tests.services import sqs
from tests.services.event_source import EventSource

RETRY = RetryPolicy(max_attempts=2, initial="1s", jitter="none")


class Function:
    """A function with its app and the mappings of its queues; closed by the fixture."""

    def __init__(
        self, folder: Path, *, store: str = "sqlite:///{}/records.db", endpoint: str | None = None
    ) -> None:
        self.endpoint = endpoint or sqs.ministack()
        self.prefix = f"t{uuid4().hex[:12]}"
        self.bq = BrokerQ(
            "shop",
            url=f"sqs://{sqs.REGION}?endpoint={self.endpoint}&prefix={self.prefix}&wait=1s",
            store_url=store.format(folder),
            retry=RETRY,
        )
        self.handler = self.bq.lambda_handler()
        self.done: list[Any] = []
        self._sources: list[EventSource] = []

    def source(self, name: str = "default") -> EventSource:
        """Return the mapping of a queue, which must be there."""
        source = EventSource(self.endpoint, f"{self.prefix}__{name}")
        self._sources.append(source)
        return source

    def state(self, job_id: str) -> State:
        return self.bq.jobs.run_sync(self.bq.jobs.status(job_id)).state

    def dead(self, queue: str = "default-dead") -> dict[str, str]:
        """Return the reasons of the dead letters that are in SQS, by job."""
        event = self.source(queue).poll()
        letters = read_event(event).messages if event else ()
        found = [unpack(letter).message.headers for letter in letters]
        return {headers["bq-id"]: headers["bq-dead-reason"] for headers in found}

    def close(self) -> None:
        self.bq.close_sync()
        for source in self._sources:
            source.close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sqs.CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Function]]:
    made: list[Function] = []

    def make(**options: str) -> Function:
        made.append(Function(tmp_path, **options))
        return made[-1]

    yield make
    for function in made:
        function.close()


@pytest.fixture
def function(make: Callable[..., Function]) -> Function:
    return make()
