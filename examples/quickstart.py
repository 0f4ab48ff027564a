"""One job, published and run in one program: `python examples/quickstart.py`.

Jobs are kept in `.brokerq/shop.db`, or where `BROKERQ_URL` says. To run the worker on its own:
`brokerq worker quickstart:bq`, in this folder.
"""

from __future__ import annotations

import asyncio
import secrets

from brokerq import BrokerQ, Context, Reject, RetryPolicy

bq = BrokerQ("shop")


@bq.job(
    retry=RetryPolicy(max_attempts=5, initial="100ms"), timeout="20s", idempotency_key="order_id"
)
async def charge(ctx: Context, order_id: str, cents: int) -> str:
    """Charge an order; the first attempt meets a provider that is down."""
    if cents <= 0:
        raise Reject("the amount must be positive")  # no retry: a dead letter now
    if ctx.attempt == 1:
        raise ConnectionError("the provider cannot be reached")
    return f"receipt for {order_id}"


async def main() -> None:
    """Publish two orders, one of them twice, and work until nothing is left."""
    number = secrets.token_hex(4)
    async with bq:
        good = await charge.publish(order_id=f"good-{number}", cents=4200)
        again = await charge.publish(order_id=f"good-{number}", cents=4200)
        bad = await charge.publish(order_id=f"bad-{number}", cents=0)
        await bq.run_worker(burst=True)

        print("the second publish was a duplicate:", again.duplicate)
        print("good:", await good.result())
        status = await bad.status()
        print("bad:", status.state, "-", status.note)


if __name__ == "__main__":
    asyncio.run(main())
