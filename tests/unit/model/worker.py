"""What a worker does with a delivery, one step at a time, and how it can fail between any two."""

from collections.abc import Iterator
from functools import cache
from random import Random

from brokerq import decide as deciding
from brokerq import settlement
from brokerq.broker import Release
from brokerq.dead_letter import Scene, write_letter
from brokerq.outcome import Cancelled, Outcome, Unrunnable
from brokerq.records import BURIED, Claimed, Hold, State
from tests.unit.model import store
from tests.unit.model.messages import head_of, message_of, number_of
from tests.unit.model.world import (
    IDLE,
    INTERRUPTION,
    LEASE,
    POLICY,
    PUBLISHED,
    SNOOZE,
    Plan,
    Scenario,
    Slot,
    Stage,
    Step,
    ViolationError,
    World,
    plan_of,
)

_SCENE = Scene(at=PUBLISHED, queue="q", worker="worker", host="host", app_version=None)
_RANDOM = Random(0)


def steps(world: World, scenario: Scenario) -> Iterator[Step]:
    """Return what each slot can do next; of two idle ones only the first receives."""
    for position, slot in enumerate(world.slots):
        match slot.stage:
            case Stage.IDLE:
                if position == 0 or world.slots[0] != IDLE:
                    yield from _receive(world, position)
            case Stage.RECEIVED:
                yield _claim(world, position, slot, scenario)
            case Stage.CLAIMED:
                yield from _run(world, position, slot, scenario)
            case Stage.RAN:
                yield finish(world, position, slot, scenario)
            case Stage.RECORDED:
                yield from _carry_out(world, position, slot, scenario)
            case Stage.FOLLOWED_UP:
                yield from _settle(world, position, slot, scenario)
        if slot.stage != Stage.IDLE:
            yield from _faults(world, position, slot)


def _receive(world: World, position: int) -> Iterator[Step]:
    for waiting in dict.fromkeys(world.queue):
        if waiting.due:
            after = world.without_message(waiting)
            after = after.with_slot(position, Slot(Stage.RECEIVED, waiting.message))
            yield Step(f"slot {position} receives epoch {head_of(waiting.message).epoch}", after)


def _claim(world: World, position: int, slot: Slot, scenario: Scenario) -> Step:
    answer, after = store.claim(world, slot.message)
    if isinstance(answer, Claimed):
        problem = deciding.precheck(answer, POLICY, now=world.now.wall)
        stage = Stage.CLAIMED if problem is None else Stage.RAN
        slot = slot._replace(stage=stage, claimed=answer, outcome=problem)
    else:
        message = message_of(slot.message)
        verdict = settlement.settle_unclaimed(answer, message, deliveries=1)
        plan = plan_of(verdict, slot.message, in_place=scenario.in_place)
        slot = slot._replace(stage=Stage.RECORDED, plan=plan)
    return Step(f"slot {position} claims: {answer}", after.with_slot(position, slot))


def _run(world: World, position: int, slot: Slot, scenario: Scenario) -> Iterator[Step]:
    """Let the handler take effect and come to each outcome; a renewal may come first."""
    job_id = head_of(slot.message).id
    claimed = slot.claimed
    assert claimed is not None
    if claimed.crashes >= POLICY.max_crashes:
        raise ViolationError(f"P3: {claimed.crashes} workers were lost, and it runs again")
    hold, renewed = store.renew(world, job_id, claimed)
    if renewed != world:
        yield Step(f"slot {position} renews its lease", renewed)
    job = world.job(job_id)
    if claimed.redrives == job.ledger.redrives:
        ledger = job.ledger._replace(unrecorded=job.ledger.unrecorded + 1)
        world = world.with_job(job_id, job._replace(ledger=ledger))
    outcomes: tuple[Outcome, ...] = scenario.outcomes
    if hold == Hold.CANCEL_REQUESTED:
        outcomes = (*outcomes, Cancelled())
    for outcome in outcomes:
        after = world
        if outcome in {SNOOZE, INTERRUPTION}:
            if not world.releases:
                continue
            after = world._replace(releases=world.releases - 1)
        after = after.with_slot(position, slot._replace(stage=Stage.RAN, outcome=outcome))
        yield Step(f"slot {position} runs: {outcome}", after)


def finish(world: World, position: int, slot: Slot, scenario: Scenario) -> Step:
    claimed, outcome, message = slot.claimed, slot.outcome, message_of(slot.message)
    assert claimed is not None
    assert outcome is not None
    job_id = head_of(slot.message).id
    decision = deciding.decide(outcome, claimed, POLICY, now=world.now.wall, random=_RANDOM)
    copy = settlement.needs_copy(
        decision.state,
        decision.delay,
        in_place=scenario.longest_in_place,
        counts_in_message=False,
    )
    letter = None
    if decision.state in BURIED:
        attempts = claimed.attempts + decision.attempt
        letter = _letter(slot.message, decision.reason or "", attempts, claimed)
    record, after = store.finish(
        world,
        job_id,
        claimed,
        state=decision.state,
        attempt=decision.attempt,
        copy=copy,
        delay=decision.delay,
        letter=letter,
    )
    if record is None:
        plan = plan_of(Release(delay=LEASE), slot.message, in_place=scenario.in_place)
        label = f"slot {position} is refused: {decision.state}"
    else:
        following = settlement.next_copy(
            message, epoch=record.epoch, attempts=record.attempts, crashes=record.crashes
        )
        verdict = settlement.settle_finished(
            record.state,
            message,
            delay=decision.delay,
            copy=following if copy else None,
            letter=None if letter is None else message_of(letter),
        )
        plan = plan_of(verdict, slot.message, in_place=scenario.in_place)
        after = _note_recorded(after, job_id, claimed, outcome)
        label = f"slot {position} records: {record.state}"
    slot = slot._replace(stage=Stage.RECORDED, claimed=None, outcome=None, plan=plan)
    return Step(label, after.with_slot(position, slot))


def _note_recorded(world: World, job_id: str, claimed: Claimed, outcome: Outcome) -> World:
    job = world.job(job_id)
    if isinstance(outcome, Unrunnable) or claimed.redrives != job.ledger.redrives:
        return world
    ledger = job.ledger._replace(unrecorded=job.ledger.unrecorded - 1)
    return world.with_job(job_id, job._replace(ledger=ledger))


@cache
def _letter(message: int, reason: str, attempts: int, claimed: Claimed) -> int:
    return number_of(
        write_letter(
            message_of(message),
            reason=reason,
            note=None,
            error=None,
            first_at=claimed.first_at,
            attempts=attempts,
            crashes=claimed.crashes,
            epoch=claimed.epoch,
            scene=_SCENE,
        )
    )


def _carry_out(world: World, position: int, slot: Slot, scenario: Scenario) -> Iterator[Step]:
    """Confirm the follow-up; where that and the settlement are one transaction, do both or none."""
    plan = slot.plan
    assert plan is not None
    if plan.follow_up is None:
        yield from _settle(world, position, slot, scenario)
    elif not scenario.atomic:
        after = _follow_up(world, plan, plan.follow_up)
        after = after.with_slot(position, slot._replace(stage=Stage.FOLLOWED_UP))
        yield Step(f"slot {position} follows up: {plan}", after)
    elif slot.lost:
        yield Step(f"slot {position} settles too late", world.with_slot(position, IDLE))
    else:
        after = _follow_up(world, plan, plan.follow_up).with_slot(position, IDLE)
        yield Step(f"slot {position} follows up and settles: {plan}", after)


def _follow_up(world: World, plan: Plan, message: int) -> World:
    if not plan.dead:
        return world.with_message(message, due=plan.at_once)
    head = head_of(message)
    return world._replace(dead=world.dead | {(head.id, head.epoch)})


def _settle(world: World, position: int, slot: Slot, scenario: Scenario) -> Iterator[Step]:
    plan = slot.plan
    assert plan is not None
    after = world.with_slot(position, IDLE)
    if not slot.lost:
        if plan.returns:
            after = after.with_message(slot.message, due=plan.at_once)
        yield Step(f"slot {position} settles: {plan}", after)
        return
    yield Step(f"slot {position} settles too late", after)
    if scenario.late_settlement and not plan.returns:
        for waiting in dict.fromkeys(world.queue):
            if waiting.message == slot.message:
                label = f"slot {position} settles late and removes the message"
                yield Step(label, after.without_message(waiting))


def _faults(world: World, position: int, slot: Slot) -> Iterator[Step]:
    if world.kills:
        after = world._replace(kills=world.kills - 1).with_slot(position, IDLE)
        if not slot.lost:
            after = after.with_message(slot.message, due=True)
        yield Step(f"slot {position} is killed", after, forward=False)
    if not world.losses:
        return
    after = world._replace(losses=world.losses - 1)
    lapsed = None if slot.claimed is None else lapse(after, slot)
    if lapsed is not None:
        label = f"slot {position} loses its lease on the record"
        yield Step(label, lapsed, forward=False)
    if slot.lost:
        return
    for before, what in ((after, "delivery"), (lapsed, "delivery and on the record")):
        if before is not None:
            void = before.with_slot(position, slot._replace(lost=True))
            void = void.with_message(slot.message, due=True)
            yield Step(f"slot {position} loses its lease on the {what}", void, forward=False)


def lapse(world: World, slot: Slot) -> World | None:
    """Return the world in which the lease of that slot's claim is over; None: it has none."""
    job_id = head_of(slot.message).id
    job = world.job(job_id)
    record, claimed = job.record, slot.claimed
    if record is None or claimed is None or record.state != State.RUNNING:
        return None
    if record.fence != claimed.fence or not record.lease_until:
        return None
    return lapse_record(world, job_id)


def lapse_record(world: World, job_id: str) -> World:
    job = world.job(job_id)
    assert job.record is not None
    return world.with_job(job_id, job._replace(record=job.record._replace(lease_until=0.0)))
