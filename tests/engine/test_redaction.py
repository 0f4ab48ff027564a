"""Hidden fields do not reach records, dead letters or logs; the job itself gets them."""

from __future__ import annotations

import logging

import pytest

from brokerq import BrokerQ, Context, Reject, State
from tests.engine import process_jobs
from tests.engine.conftest import ONCE, letters_of

SECRET = "4111-1111-1111-1111"


@pytest.mark.parametrize("error", [ValueError, Reject])
async def test_nothing_recorded_or_logged_holds_a_hidden_value(
    bq: BrokerQ, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    seen: list[str] = []

    @bq.job(retry=ONCE, redact=["card"])
    async def pay(ctx: Context, card: str, cents: int) -> None:
        seen.append(card)
        event = f"paying with {card}"
        ctx.log.info(event, card=card, cents=cents)
        raise error(f"card {card} was refused")

    caplog.set_level(logging.INFO)
    handle = await pay.publish(SECRET, 5)
    await bq.run_worker(burst=True)
    assert seen == [SECRET]
    view = await handle.status()
    assert view.state is State.DEAD
    assert view.failure is not None
    assert view.failure.message == "card *** was refused"
    assert SECRET not in repr((view.history, view.note, view.log))
    assert "paying with *** card='***' cents=5" in view.log[0]
    [letter] = await letters_of(bq)
    said = {k: v for k, v in letter.message.headers.items() if k.startswith("bq-dead-")}
    assert SECRET not in repr(said)
    assert "card *** was refused" in said["bq-dead-traceback"]
    assert SECRET.encode() in letter.message.body  # or it could not be redriven
    assert SECRET not in caplog.text


async def test_inline_mode_hides_the_same(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKERQ_MODE", "inline")
    bq = BrokerQ("inline", url="memory://")

    @bq.job(redact=["card"])
    async def pay(ctx: Context, card: str) -> None:
        ctx.log.warning("paying", card=card)

    caplog.set_level(logging.INFO)
    handle = await pay.publish(SECRET)
    assert "card='***'" in (await handle.status()).log[0]
    assert SECRET not in caplog.text


async def test_a_process_of_its_own_hides_a_short_value_by_its_name(bq: BrokerQ) -> None:
    introduce = bq.job(run_in="process", redact=["name"])(process_jobs.introduce)
    handle = await introduce.publish("Ada")
    await bq.run_worker(burst=True)
    assert "introducing name='***'" in (await handle.status()).log[0]
