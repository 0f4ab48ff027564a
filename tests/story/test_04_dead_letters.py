"""What cannot be done is kept, with the reason, and can be put back when the cause is gone."""

from __future__ import annotations

from brokerq import BrokerQ, LetterFilter, LetterState, Reject, State


async def test_a_dead_letter_says_what_happened(bq: BrokerQ) -> None:
    @bq.job()
    async def charge(cents: int) -> None:
        raise Reject("amount must be positive")

    handle = await charge.publish(-5)
    await bq.run_worker(burst=True)

    [letter] = await bq.dead_letters.search(LetterFilter(job="charge"), limit=10)
    assert letter.job_id == handle.id
    assert letter.reason == "rejected"
    assert letter.error_message == "amount must be positive"
    assert letter.message.body == b'{"cents":-5}'  # as it was published, byte for byte


async def test_redriving_puts_it_back_with_fresh_attempts(bq: BrokerQ) -> None:
    service_is_down = [True]

    @bq.job()
    async def charge(cents: int) -> str:
        if service_is_down:
            raise Reject("the account is locked")
        return f"charged {cents}"

    handle = await charge.publish(5)
    await bq.run_worker(burst=True)
    assert (await handle.status()).state == State.DEAD

    service_is_down.clear()
    await bq.dead_letters.redrive([handle.id], by="alice")
    await bq.run_worker(burst=True)
    assert await handle.result() == "charged 5"  # the same job, the same id
    assert (await bq.dead_letters.get(handle.id)).state == LetterState.REDRIVEN


async def test_or_a_person_says_that_it_is_dealt_with(bq: BrokerQ) -> None:
    @bq.job()
    async def charge() -> None:
        raise Reject("no such customer")

    handle = await charge.publish()
    await bq.run_worker(burst=True)
    await bq.dead_letters.close(
        [handle.id], state=LetterState.RESOLVED, by="alice", note="paid in cash"
    )
    assert await bq.dead_letters.search(LetterFilter(), limit=10) == []
    assert (await bq.dead_letters.get(handle.id)).note == "paid in cash"
