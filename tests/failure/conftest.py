"""What the failure tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failure.processes import Spawner


@pytest.fixture(scope="session")
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()
