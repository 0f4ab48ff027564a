"""The conformance suite of seam 1."""

from __future__ import annotations

from brokerq.testing.broker_dead import DeadCases
from brokerq.testing.broker_delay import DelayCases
from brokerq.testing.broker_delivery import DeliveryCases
from brokerq.testing.broker_lease import LeaseCases
from brokerq.testing.broker_opening import OpeningCases
from brokerq.testing.broker_order import OrderCases
from brokerq.testing.broker_publishing import PublishingCases
from brokerq.testing.broker_salvage import SalvageCases
from brokerq.testing.broker_stats import StatsCases
from brokerq.testing.broker_topology import TopologyCases


class BrokerContract(
    PublishingCases,
    DeliveryCases,
    LeaseCases,
    DelayCases,
    DeadCases,
    SalvageCases,
    OrderCases,
    StatsCases,
    OpeningCases,
    TopologyCases,
):
    """What every `brokerq.broker.Broker` must do.

    Inherit it in a class whose name begins with `Test` and override the fixture `harness`. Where a
    broker lacks a capability its case asserts the refusal; none is skipped.
    """
