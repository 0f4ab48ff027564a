"""The demo's app, `brokerq.demo.app:bq`: one job, which registers a row with the service."""

from __future__ import annotations

import json
from datetime import timedelta

from brokerq import BrokerQ, Context, Limits, Reject, RetryAfter, RetryPolicy
from brokerq.demo.faults import TIMEOUT
from brokerq.demo.post import post
from brokerq.job import AnyJob

QUEUE = "entries"
LEASE = timedelta(seconds=2)
"""Short, so that a killed worker's jobs are taken over while one watches."""
EVERY_ROW = 10_000_000
"""Ended jobs to keep: the check at the end wants to see all of them."""


class ServiceError(Exception):
    """The service answered what nobody expected."""


async def register(ctx: Context, entry: str, record: dict[str, str]) -> None:
    """Register a row; the service does it once for one `effect_key`, however often it is asked.

    Args:
        ctx: Names the service in its headers: each run of the demo starts its own.
        entry: The run and the row's number, as in "3f9a/17".
        record: The row, by column.
    """
    answer = await post(
        f"{ctx.headers['service']}/entries",
        headers={"Idempotency-Key": ctx.effect_key, "Content-Type": "application/json"},
        body=json.dumps({"entry": entry, "record": record}).encode(),
    )
    match answer.status:
        case 201:
            return
        case 503 if answer.retry_after is not None:
            raise RetryAfter(answer.retry_after, "the service is busy")
        case status if 400 <= status < 500:  # noqa: PLR2004 - asking again is no use
            raise Reject(f"refused with {status}")
        case status:
            raise ServiceError(f"the service answered {status}")


def demo_app(url: str | None = None, store_url: str | None = None) -> tuple[BrokerQ, AnyJob]:
    """Return the app and its job; without URLs on what the environment names."""
    bq = BrokerQ(
        "brokerq-demo", url=url, store_url=store_url, limits=Limits(finished_count=EVERY_ROW)
    )
    bq.queue(QUEUE, lease=LEASE)
    job = bq.job(
        queue=QUEUE,
        idempotency_key="entry",
        timeout=TIMEOUT,
        retry=RetryPolicy(max_attempts=4, initial="200ms", max_delay="5s"),
    )(register)
    return bq, job


bq, _ = demo_app()
