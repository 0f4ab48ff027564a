"""What a handler for AWS Lambda refuses, or warns of."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokerq import BrokerQ
from brokerq.errors import CapabilityError, ConfigurationError, UnknownQueueError
from tests.services import sqs
from tests.services.event_source import Context as LambdaContext
from tests.services.event_source import EventSource
from tests.services.lambda_function import Function, credentials, function, make

__all__ = ["credentials", "function", "make"]

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/jobs.db"])
def test_a_broker_that_lambda_does_not_know_is_refused(url: str, tmp_path: Path) -> None:
    bq = BrokerQ("shop", url=url.format(tmp_path))
    handler = bq.lambda_handler()
    with pytest.raises(CapabilityError, match="no host hands over"):
        handler({"Records": []}, LambdaContext(30))
    bq.close_sync()


def test_what_is_not_this_app_s_is_refused(function: Function) -> None:
    @function.bq.job()
    async def work() -> None:
        """Do nothing."""

    work.publish_sync()
    event = function.source().gather(1)
    with pytest.raises(ConfigurationError, match="no records"):
        function.handler({}, LambdaContext(30))
    for record in event["Records"]:
        record["eventSourceARN"] += "-other"
    with pytest.raises(UnknownQueueError, match="default-other"):
        function.handler(event, LambdaContext(30))


def test_a_job_that_may_take_too_long_is_named(
    function: Function, caplog: pytest.LogCaptureFixture
) -> None:
    @function.bq.job(timeout="1m")
    async def long() -> None:
        """Do nothing."""

    source: EventSource | None = None
    for _ in range(2):
        long.publish_sync()
        source = source or function.source()
        assert source.run(function.handler, seconds=20, wait=1) == []
    warnings = [r.getMessage() for r in caplog.records if "interrupted" in r.getMessage()]
    assert len(warnings) == 1
    assert "long" in warnings[0]
