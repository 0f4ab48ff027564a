"""What arrives from elsewhere: written by hand, unknown, broken. Nothing fails silently."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq import BrokerQ, Context, Letter, Limits, State
from brokerq.engine import intake
from brokerq.errors import BodyTooLargeError, PayloadError, UnknownJobError, UnknownQueueError
from tests.engine.conftest import Place, eventually, letters_of, working


@pytest.fixture
async def bq(place: Place) -> BrokerQ:
    """With a job, and patience of 50 ms for unknown ones."""
    bq = place.app(limits=Limits(unknown_wait=timedelta(milliseconds=50)))
    bq.queue("foreign", default_job="work")

    @bq.job()
    async def work(ctx: Context, number: int) -> str:
        return f"{ctx.queue} {number}"

    await bq.open()
    return bq


async def only_letter(bq: BrokerQ) -> Letter:
    await bq.run_worker(burst=True)
    [letter] = await letters_of(bq)
    return letter


async def test_a_message_that_names_its_job_runs(place: Place, bq: BrokerQ) -> None:
    message_id = await place.send(b'{"number": 5}', bq_job="work")
    await bq.run_worker(burst=True)
    assert await bq.handle(message_id).result() == "default 5"  # its id is the broker's


@pytest.mark.parametrize("own", [{}, {"bq_id": "0190-own"}, {"bq_id": "0190-own", "bq_v": "1"}])
async def test_a_message_may_have_an_id_of_its_own(
    place: Place, bq: BrokerQ, own: dict[str, str]
) -> None:
    message_id = await place.send(b'{"number": 5}', bq_job="work", **own)
    await bq.run_worker(burst=True)
    assert await bq.handle(own.get("bq_id", message_id)).result() == "default 5"


async def test_a_message_that_names_none_runs_as_the_queues_default(
    place: Place, bq: BrokerQ
) -> None:
    message_id = await place.send(b'{"number": 5}', queue="foreign", shop="north")
    await bq.run_worker(burst=True)
    assert await bq.handle(message_id).result() == "foreign 5"
    view = await bq.handle(message_id).status()
    assert view.message is not None
    assert view.message.headers["shop"] == "north"


async def test_a_message_that_names_none_where_there_is_no_default_is_dead(
    place: Place, bq: BrokerQ
) -> None:
    await place.send(b"\x00\xff anything", shop="north")
    letter = await only_letter(bq)
    assert letter.reason == "unknown_job"
    assert letter.message.body == b"\x00\xff anything"
    assert letter.message.headers["shop"] == "north"
    assert "no default job" in letter.message.headers["bq-dead-note"]


async def test_a_broken_body_is_undecodable_and_kept_byte_for_byte(
    place: Place, bq: BrokerQ
) -> None:
    await place.send(b'{"number": \xff', bq_job="work")
    letter = await only_letter(bq)
    assert (letter.reason, letter.message.body) == ("undecodable", b'{"number": \xff')


async def test_a_body_that_does_not_fit_is_invalid(place: Place, bq: BrokerQ) -> None:
    await place.send(b'{"number": "many"}', bq_job="work")
    letter = await only_letter(bq)
    assert letter.reason == "invalid"
    assert "parameter 'number'" in letter.message.headers["bq-dead-note"]


@pytest.mark.parametrize(
    "headers",
    [{"bq_v": "99"}, {"bq_epoch": "many"}, {"bq_first_at": "yesterday"}, {"bq_tags": "{"}],
    ids=lambda headers: next(iter(headers)),
)
async def test_headers_that_cannot_be_read_are_undecodable(
    place: Place, bq: BrokerQ, headers: dict[str, str]
) -> None:
    await place.send(b'{"number": 5}', bq_job="work", bq_id="0190-own", **headers)
    letter = await only_letter(bq)
    assert (letter.job_id, letter.reason) == ("0190-own", "undecodable")
    assert (await bq.handle("0190-own").status()).state == State.DEAD


async def test_a_job_that_nobody_knows_waits_then_dies(place: Place, bq: BrokerQ) -> None:
    handle = await bq.publish("newer", {"number": 5}, queue="default")
    letter = await only_letter(bq)
    assert letter.reason == "unknown_job"
    states = [step.state for step in (await handle.status()).history]
    assert State.SCHEDULED in states
    assert (await handle.status()).attempts == 0


async def test_a_job_that_nobody_knew_runs_when_somebody_does(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "UNKNOWN_PAUSE", timedelta(milliseconds=50))
    old, new = place.app(), place.app()

    @old.job()
    async def older() -> None: ...

    @new.job()
    async def newer(number: int) -> int:
        return number

    handle = await old.publish("newer", {"number": 5}, queue="default")
    async with working(old):
        await eventually(lambda: _is_scheduled(old, handle.id))
    await new.run_worker(burst=True)
    assert await handle.result() == 5


async def _is_scheduled(bq: BrokerQ, job_id: str) -> bool:
    return (await bq.jobs.status(job_id)).state == State.SCHEDULED


async def test_a_redriven_unknown_job_waits_anew(place: Place, bq: BrokerQ) -> None:
    handle = await bq.publish("newer", {}, queue="default")
    await bq.run_worker(burst=True)
    await bq.dead_letters.redrive([handle.id], by="the test")
    await bq.run_worker(burst=True)
    states = [step.state for step in (await handle.status()).history]
    assert states.count(State.SCHEDULED) == 2


async def test_a_key_given_by_hand_that_is_held_ends_the_message(place: Place, bq: BrokerQ) -> None:
    @bq.job(idempotency_key="order")
    async def pay(order: str, cents: int) -> int:
        return cents

    first = await pay.publish("o-1", 5)
    same = await place.send(b'{"order":"o-1","cents":5}', bq_job="pay")
    other = await place.send(b'{"order":"o-1","cents":6}', bq_job="pay")
    await bq.run_worker(burst=True)
    assert await first.result() == 5
    skipped = await bq.jobs.status(same)
    assert (skipped.state, skipped.note) == (State.SKIPPED, f"duplicate_of {first.id}")
    letter = await bq.dead_letters.get(other)
    assert letter.reason == "key_conflict"
    assert first.id in letter.message.headers["bq-dead-note"]


async def test_bad_arguments_are_refused_where_the_code_is_known(bq: BrokerQ) -> None:
    with pytest.raises(PayloadError, match="work: parameter 'number': Input should be"):
        await bq.publish("work", {"number": "many"})
    with pytest.raises(PayloadError, match="there is no parameter 'numbre'"):
        await bq.publish("work", {"numbre": 5})
    with pytest.raises(PayloadError, match="elsewhere: the arguments cannot be encoded as JSON"):
        await bq.publish("elsewhere", {"number": object()}, queue="default")


async def test_unknown_names_are_refused_with_the_nearest(bq: BrokerQ) -> None:
    with pytest.raises(UnknownJobError, match=r"'wrok' is registered \(did you mean 'work'"):
        await bq.publish("wrok", {"number": 5})
    with pytest.raises(UnknownQueueError, match=r"declare it with bq.queue\(\"forein\"\)"):
        await bq.publish("work", {"number": 5}, queue="forein")
    with pytest.raises(UnknownQueueError, match="has no priority 'high', only normal: declare"):
        await bq.publish("work", {"number": 5}, priority="high")


async def test_a_message_over_the_brokers_limit_is_refused_with_advice(
    place: Place, bq: BrokerQ
) -> None:
    @bq.job()
    async def store(text: str) -> None: ...

    limit = place.backends().broker.capabilities.max_body
    assert limit is not None
    with pytest.raises(BodyTooLargeError, match="pass a reference to the data instead"):
        await store.publish("x" * limit)
    assert (await bq.run_worker(burst=True)).outcomes == {}
