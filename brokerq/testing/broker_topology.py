"""Cases: what an app needs in the broker is planned, compared and permitted without touching it."""

from __future__ import annotations

from typing import cast

import pytest

from brokerq.broker import Ack, Lane, Ordering
from brokerq.errors import BrokerqError, CapabilityError, DriftError
from brokerq.testing.broker_cases import BrokerCases, Place, in_time
from brokerq.testing.harness import FullBroker
from brokerq.topology import Permissions, Topology

ROLES = {"producer", "consumer", "operator", "deployer"}


class TopologyCases(BrokerCases):
    """Plans and differences, for brokers whose queues are deployed; rights, where there are any."""

    async def test_a_plan_needs_no_connection_and_names_each_thing_once(self, place: Place) -> None:
        broker = place.harness.make(place.prefix)
        if not isinstance(broker, Topology):
            return
        specs = [place.spec("jobs", levels=("high", "low")), place.spec("mail")]
        plan = list(broker.plan(specs))
        other = place.harness.make(place.prefix)
        assert isinstance(other, Topology)
        assert list(other.plan(specs)) == plan
        named = [(each.kind, each.name) for each in plan]
        assert len(set(named)) == len(named)
        for spec in specs:
            assert any(place.prefix in name and spec.name in name for _, name in named)

    async def test_a_plan_is_refused_for_what_the_broker_cannot_keep(self, place: Place) -> None:
        broker = place.harness.make(place.prefix)
        if not isinstance(broker, Topology):
            return
        ordered = [place.spec("jobs", ordered=True)]
        if broker.capabilities.ordering is Ordering.NONE:
            with pytest.raises(CapabilityError):
                broker.plan(ordered)
        else:
            assert list(broker.plan(ordered)) != list(broker.plan([place.spec("jobs")]))

    async def test_what_is_missing_is_told_until_it_is_declared(
        self, place: Place, broker: FullBroker
    ) -> None:
        if not isinstance(broker, Topology):
            return
        specs = [place.spec("jobs"), place.spec("mail")]
        planned = {(each.kind, each.name) for each in broker.plan(specs)}
        for _ in range(2):  # asking makes nothing
            missing = await broker.drift(specs)
            assert {each.setting for each in missing} == {None}
            assert {(each.kind, each.name) for each in missing} <= planned
            for spec in specs:
                assert any(spec.name in each.name for each in missing)
            with pytest.raises(DriftError):
                await cast("FullBroker", broker).declare(specs, create=False)
        await cast("FullBroker", broker).declare(specs[:1])
        assert await broker.drift(specs[:1]) == []
        assert any("mail" in each.name for each in await broker.drift(specs))
        await cast("FullBroker", broker).declare(specs)
        assert await broker.drift(specs) == []
        await cast("FullBroker", broker).declare(specs, create=False)

    async def test_comparing_disturbs_no_consumer(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if not isinstance(broker, Topology):
            return
        full = cast("FullBroker", broker)
        async with full.consume(lane, prefetch=2) as consumer:
            await full.publish([place.outgoing(lane)])
            held = await place.receive_one(consumer)
            assert await broker.drift([place.spec(lane.queue), place.spec("nobody")])
            await full.publish([place.outgoing(lane)])
            again = await place.receive_one(consumer)
            assert await consumer.settle([(held, Ack()), (again, Ack())]) == [True, True]
        await place.is_empty(full, lane.queue)

    async def test_comparing_needs_an_open_broker(self, place: Place) -> None:
        broker = place.harness.make(place.prefix)
        if not isinstance(broker, Topology):
            return
        with pytest.raises(BrokerqError, match=r"open|closed"):
            await in_time(broker.drift([place.spec("jobs")]))

    async def test_every_role_is_told_its_rights(self, place: Place) -> None:
        broker = place.harness.make(place.prefix)
        if not isinstance(broker, Permissions):
            return
        rights = broker.permissions([place.spec("jobs")])
        assert set(rights) == ROLES
        assert all(place.prefix in text for text in rights.values())
        assert rights["producer"] != rights["deployer"]
