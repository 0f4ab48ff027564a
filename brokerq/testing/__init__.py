"""The conformance suites that an adapter inherits to prove itself; needs `brokerq[testing]`."""

import pkgutil

import pytest

# Without this a failed case of a third party's suite would not show the values it compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{found.name}" for found in pkgutil.iter_modules(__path__))
)

from brokerq.testing.broker_contract import BrokerContract  # noqa: E402
from brokerq.testing.harness import BrokerHarness, FullBroker  # noqa: E402
from brokerq.testing.store_contract import StoreContract  # noqa: E402
from brokerq.testing.store_harness import StoreHarness  # noqa: E402

__all__ = ["BrokerContract", "BrokerHarness", "FullBroker", "StoreContract", "StoreHarness"]
