"""The contract of a store: what every adapter's must do, as test cases."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from brokerq.testing.store_cancel import CancelCases
from brokerq.testing.store_claims import ClaimCases
from brokerq.testing.store_colocated import ColocatedCases
from brokerq.testing.store_delays import DueCases
from brokerq.testing.store_finish import FinishCases
from brokerq.testing.store_harness import StoreHarness
from brokerq.testing.store_keys import KeyCases
from brokerq.testing.store_letters import LetterCases
from brokerq.testing.store_outbox import OutboxCases
from brokerq.testing.store_places import PauseCases, PlaceCases
from brokerq.testing.store_reads import ReadCases
from brokerq.testing.store_redrives import RedriveCases
from brokerq.testing.store_retention import RetentionCases
from brokerq.testing.store_transactions import TransactionCases
from brokerq.testing.store_zombies import ZombieCases

__all__ = ["StoreContract"]


@pytest.mark.asyncio
class StoreContract(
    ClaimCases,
    ZombieCases,
    FinishCases,
    CancelCases,
    KeyCases,
    DueCases,
    ReadCases,
    LetterCases,
    RedriveCases,
    PauseCases,
    RetentionCases,
    PlaceCases,
    ColocatedCases,
    OutboxCases,
    TransactionCases,
    ABC,
):
    """Inherit it in a test class and say in the fixture `harness` where the store is.

    Needs `pytest-asyncio`. No case is ever skipped: where a store need not be able to do something,
    the case asserts that it does not claim to.
    """

    @pytest.fixture
    @abstractmethod
    def harness(self) -> StoreHarness:
        """Return the harness of a fresh place; override it as a fixture, async or not."""
