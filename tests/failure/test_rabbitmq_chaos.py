"""Everything at once on RabbitMQ: workers die, the network fails, the broker restarts; by a seed.

`make chaos` runs it for long; see `test_chaos.py` for the environment variables.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.failure.on_rabbitmq import scene_on
from tests.failure.processes import Spawner
from tests.failure.roles import UNREACHABLE
from tests.failure.scene import Scene
from tests.failure.test_chaos import WORKERS, Chaos, schedule, wreak
from tests.services.postgres_server import Server
from tests.services.proxy import TO_CLIENT, Proxy
from tests.services.rabbitmq import Node

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine


class Storm(Chaos):
    """Troubles the workers as `Chaos` does, and the network and the broker besides."""

    codes = Chaos.codes | {UNREACHABLE}

    def __init__(
        self, scene: Scene, seed: int, stack: ExitStack, *, proxy: Proxy, node: Node | Server | None
    ) -> None:
        """Begin.

        Args:
            scene: Its processes go through the proxy.
            seed: Of the schedule.
            stack: Ends the processes.
            proxy: The network.
            node: The broker, if it is to be troubled, too.
        """
        super().__init__(scene, seed, stack)
        self._proxy = proxy
        self._node = node

    async def _act(self) -> None:
        choice = self._random.random()
        if choice < 0.5:
            await super()._act()
            return
        self._scene.faults += WORKERS  # none of them may be heard of until its leases end
        if choice < 0.95 or self._node is None:
            await self._trouble_network()
        else:
            await self._trouble_broker(self._node)

    async def _trouble_network(self) -> None:
        trouble = self._random.choice(["cut", "hold", "silence", "slow", "refuse"])
        self.done[trouble] += 1
        proxy = self._proxy
        match trouble:
            case "hold":  # what the broker says does not arrive: confirms above all
                proxy.hold(TO_CLIENT)
                await asyncio.sleep(self._random.uniform(0, 0.5))
                proxy.cut()
            case "silence":
                proxy.drop()
                await asyncio.sleep(self._random.uniform(0.5, 4))
            case "slow":
                proxy.slow(self._random.uniform(5_000, 50_000))
                await asyncio.sleep(self._random.uniform(0.5, 2))
            case "refuse":
                proxy.refuse()
                proxy.cut()
                await asyncio.sleep(self._random.uniform(0, 2))
            case _:
                proxy.cut()
        proxy.resume()

    async def _trouble_broker(self, node: Node | Server) -> None:
        trouble = self._random.choice(["kill the broker", "restart the broker"])
        self.done[trouble] += 1
        await asyncio.to_thread(node.kill if trouble.startswith("kill") else node.stop)
        await asyncio.to_thread(node.start)


async def brew(
    folder: Path, spawner: Spawner, node: Node, seed: int, seconds: float, *, spare: bool
) -> None:
    """Let it storm; `spare`: the broker itself."""
    with Proxy(node.port) as proxy:
        scene = scene_on(folder, spawner, node, proxy=proxy, heartbeat=1, publish_timeout=3)
        begin = partial(Storm, proxy=proxy, node=None if spare else node)
        await wreak(scene, seed, seconds, begin)


async def test_a_short_storm_over_rabbitmq_loses_nothing(
    tmp_path: Path, spawner: Spawner, rabbit: Node
) -> None:
    await brew(tmp_path, spawner, rabbit, seed=1, seconds=5, spare=True)


@pytest.mark.chaos
async def test_a_long_storm_over_rabbitmq_loses_nothing(
    tmp_path: Path, spawner: Spawner, rabbit: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, seconds = schedule()
    with capsys.disabled():
        print(f"\nBROKERQ_CHAOS_SEED={seed} for {seconds:.0f} s, in {tmp_path}")  # noqa: T201
        await brew(tmp_path, spawner, rabbit, seed, seconds, spare=False)
