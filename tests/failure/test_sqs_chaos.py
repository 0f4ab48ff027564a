"""Everything at once on SQS: workers die, calls fail, messages come twice; by a seed.

`make chaos` runs it for long; see `test_chaos.py` for the environment variables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.failure.on_sqs import LEASE, scene_on
from tests.failure.processes import Spawner
from tests.failure.roles import UNREACHABLE
from tests.failure.scene import Scene
from tests.failure.test_chaos import Chaos, schedule, wreak
from tests.services import sqs, sqs_faults
from tests.services.sqs_double import SqsDouble
from tests.services.sqs_faults import CHANGE, DELETE, RECEIVE, SEND, Fault

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)
ANY = (SEND, RECEIVE, DELETE, CHANGE)
TROUBLES: list[tuple[Fault, tuple[str, ...]]] = [
    (sqs_faults.throttled, ANY),
    (sqs_faults.broken, ANY),
    (sqs_faults.broken_after, ANY),
    (sqs_faults.cut, ANY),
    (sqs_faults.cut_after, ANY),
    (sqs_faults.cut_within, ANY),
    (sqs_faults.silent, ANY),
    (sqs_faults.silent_after, ANY),
    (sqs_faults.slow(LEASE / 3), ANY),
    (sqs_faults.late(LEASE), ANY),
    (sqs_faults.partly, (SEND, DELETE, CHANGE)),
    (sqs_faults.partly_told, (SEND, DELETE, CHANGE)),
    (sqs_faults.ignored, (DELETE, CHANGE)),
    (sqs_faults.expired, (DELETE, CHANGE)),
]


class Storm(Chaos):
    """Troubles the workers as `Chaos` does, and their calls besides."""

    codes = Chaos.codes | {UNREACHABLE}
    together = 10

    def __init__(self, scene: Scene, seed: int, stack: ExitStack, *, double: SqsDouble) -> None:
        """Begin; the scene's processes go through the double."""
        super().__init__(scene, seed, stack)
        self._double = double

    async def run(self, seconds: float) -> None:
        """Do as `Chaos` does; nothing fails any more once it heals."""
        ending = asyncio.get_running_loop().call_later(seconds, self._double.heal)
        try:
            await super().run(seconds)
        finally:
            ending.cancel()
            self._double.heal()
            self.done.update(self._double.strikes)

    async def _act(self) -> None:
        if self._random.random() < 0.3:
            await super()._act()
            return
        if self._random.random() < 0.2:
            self._double.deliver_twice(self._random.randint(1, 20))
            return
        fault, actions = self._random.choice(TROUBLES)
        chosen = self._random.sample(actions, self._random.randint(1, len(actions)))
        self._double.arrange(fault, *chosen, times=self._random.randint(1, 5), share=0.5)


async def brew(folder: Path, spawner: Spawner, endpoint: str, seed: int, seconds: float) -> None:
    with SqsDouble(endpoint, seed=seed) as double:
        scene = scene_on(folder, spawner, endpoint, double=double, call_timeout=1.5)
        begin: Callable[[Scene, int, ExitStack], Chaos] = partial(Storm, double=double)
        await wreak(scene, seed, seconds, begin)


async def test_a_short_storm_over_sqs_loses_nothing(
    tmp_path: Path, spawner: Spawner, endpoint: str
) -> None:
    await brew(tmp_path, spawner, endpoint, seed=1, seconds=6)


@pytest.mark.chaos
async def test_a_long_storm_over_sqs_loses_nothing(
    tmp_path: Path, spawner: Spawner, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, seconds = schedule()
    with capsys.disabled():
        print(f"\nBROKERQ_CHAOS_SEED={seed} for {seconds:.0f} s, in {tmp_path}")  # noqa: T201
        await brew(tmp_path, spawner, endpoint, seed, seconds)
