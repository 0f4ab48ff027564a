"""For a host without long-lived processes: a timer starts this program, which works a little.

    * * * * *  BROKERQ_URL=sqlite:////srv/newsletter.db python cron_host.py

`python cron_host.py publish ADDRESS...` is the other half: what a web page would do. One that is
started while the last one still works takes other jobs; a job is never run by two of them.
"""

from __future__ import annotations

import sys
from asyncio import run

from brokerq import BrokerQ

bq = BrokerQ("newsletter")


@bq.job(idempotency_key="address")
def welcome(address: str) -> None:
    """Greet a new reader; plain functions run in a thread."""
    sys.stdout.write(f"welcome, {address}\n")


async def work() -> None:
    """Run what is ready, for 50 seconds at most; what is due later is left for the next minute."""
    async with bq:
        report = await bq.process(max_jobs=500, max_runtime="50s")
    print("done:", report.outcomes or "nothing to do")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["publish", *addresses]:
            for each in addresses:
                welcome.publish_sync(address=each)
            bq.close_sync()
        case _:
            run(work())
