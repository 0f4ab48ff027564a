"""What becomes of a test whose service is not there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

MISSING = "service missing: "
"""How the reason of such a skip begins; the summary looks for it."""


def in_ci() -> bool:
    """Tell whether nothing may be left out."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def require_service(name: str, reason: str) -> NoReturn:
    """Give up on a test whose service cannot be reached.

    Call it once the service is known to be missing. On a laptop the test is skipped; where `CI`
    is set it fails, so that a broken pipeline cannot pass for a green one.

    Args:
        name: The service as a person knows it, such as "RabbitMQ".
        reason: What was tried and how to start the service.
    """
    message = f"{MISSING}{name}: {reason}"
    if in_ci():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
