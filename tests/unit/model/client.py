"""What happens around the workers: publishing, redriving, cancelling, and time."""

from collections.abc import Iterator
from functools import cache

from brokerq.catalogue import Letter, LetterState, Redrive
from brokerq.dead_letter import read_letter, redriven
from brokerq.message import Message
from brokerq.records import Conflict, Held, Pending, Reserved
from brokerq.wire import write_headers
from tests.unit.model import store
from tests.unit.model.messages import head_of, message_of, number_of
from tests.unit.model.worker import lapse_record
from tests.unit.model.world import (
    IDS,
    OWNER,
    Entry,
    Publisher,
    Redriver,
    Scenario,
    Sending,
    Slot,
    Stage,
    Step,
    World,
)


def steps(world: World, scenario: Scenario) -> Iterator[Step]:
    for publisher in world.publishers:
        yield from _publish(world, publisher)
    for redriver in world.redrivers:
        yield from _redrive(world, redriver)
    yield from _operate(world)
    yield from _time(world, scenario)


def _publish(world: World, publisher: Publisher) -> Iterator[Step]:
    name = publisher.name
    match publisher.stage:
        case Sending.START if publisher.reserves:
            yield from _reserve(world, publisher)
        case Sending.START | Sending.RESERVED:
            yield _send(world, publisher)
            if publisher.stage == Sending.RESERVED and world.refusals:
                after = world
                if not publisher.took_over:
                    job_id = head_of(publisher.message).id
                    after = store.free(world, job_id, owner=name)
                after = after.with_publisher(publisher, publisher._replace(stage=Sending.OVER))
                after = after._replace(refusals=world.refusals - 1)
                yield Step(f"{name}: the broker refuses the message", after, forward=False)
        case Sending.TAKEN:
            if publisher.sends:
                after = _taken(world, publisher)
                yield Step(f"{name}: the broker takes it once more", after, forward=False)
            head = head_of(publisher.message)
            after = _promise(store.enqueue(world, head), head.id)
            after = after.with_publisher(publisher, publisher._replace(stage=Sending.OVER))
            yield Step(f"{name} records the job as published", after)
        case Sending.OVER:
            return
    begun = publisher.stage in {Sending.RESERVED, Sending.TAKEN}
    if world.kills and begun:
        after = world.with_publisher(publisher, publisher._replace(stage=Sending.OVER))
        yield Step(f"{name} is killed", after._replace(kills=world.kills - 1), forward=False)


def _reserve(world: World, publisher: Publisher) -> Iterator[Step]:
    head = head_of(publisher.message)
    answer, after = store.reserve(world, head, owner=publisher.name)
    label = f"{publisher.name} reserves: {answer}"
    match answer:
        case Reserved(id=job_id):
            message = _published_as(publisher.message, job_id)
            reserved = publisher._replace(
                stage=Sending.RESERVED, message=message, took_over=job_id != head.id
            )
            yield Step(label, after.with_publisher(publisher, reserved))
            if world.lost_answers:
                # A second question under the same id could undo what became of the first.
                again = publisher._replace(message=_published_as(publisher.message, IDS[1]))
                lost = after.with_publisher(publisher, again)
                lost = lost._replace(lost_answers=world.lost_answers - 1)
                yield Step(f"{label}, but the answer is lost", lost, forward=False)
        case Held(id=job_id):
            after = _promise(after, job_id)
            yield Step(label, after.with_publisher(publisher, _over(publisher)))
        case Conflict():
            yield Step(label, after.with_publisher(publisher, _over(publisher)))
        case Pending():
            return


def _over(publisher: Publisher) -> Publisher:
    return publisher._replace(stage=Sending.OVER)


@cache
def _published_as(message: int, job_id: str) -> int:
    head = head_of(message)._replace(id=job_id)
    return number_of(Message(headers=write_headers(head), body=message_of(message).body))


def _send(world: World, publisher: Publisher) -> Step:
    """Publish; who asked no store has nothing to record either."""
    label = f"{publisher.name}: the broker takes the message"
    return Step(label, _taken(world, publisher))


def _taken(world: World, publisher: Publisher) -> World:
    job_id = head_of(publisher.message).id
    job = world.job(job_id)
    after = world.with_job(job_id, job._replace(ledger=job.ledger._replace(taken=True)))
    after = after.with_message(publisher.message, due=True)
    by_hand = head_of(publisher.message).key is not None and not publisher.reserves
    stage = Sending.OVER if by_hand else Sending.TAKEN
    sent = publisher._replace(stage=stage, sends=publisher.sends - 1)
    return after.with_publisher(publisher, sent)


def _promise(world: World, job_id: str) -> World:
    job = world.job(job_id)
    return world.with_job(job_id, job._replace(ledger=job.ledger._replace(promised=True)))


def _operate(world: World) -> Iterator[Step]:
    """Let a person cancel the first job, or put a dead letter back."""
    record = world.jobs[0].record
    if world.cancels and record is not None:
        after = store.cancel(world, record.id, record)._replace(cancels=world.cancels - 1)
        yield Step(f"cancelling: {after.jobs[0].ledger.cancel}", after, forward=False)
    for job_id in IDS:
        letter = store.newest_letter(world, job_id)
        if letter is None:
            continue
        if world.redrives and store.can_redrive(world, job_id):
            after = store.begin_redrive(world, letter)._replace(redrives=world.redrives - 1)
            yield Step(f"a redrive of {job_id} begins", _begin(after, letter), forward=False)
        elif letter.state == LetterState.REDRIVING:
            redriver = Redriver(letter.id, letter.epoch)
            abandoned = not any(r[:2] == redriver[:2] for r in world.redrivers)
            if abandoned or world.losses:
                losses = world.losses - (not abandoned)
                after = _begin(world._replace(losses=losses), letter)
                yield Step(f"the redrive of {job_id} is resumed", after, forward=abandoned)


def _begin(world: World, letter: Entry) -> World:
    redrivers = sorted((*world.redrivers, Redriver(letter.id, letter.epoch)))
    return world._replace(redrivers=tuple(redrivers))


def _redrive(world: World, redriver: Redriver) -> Iterator[Step]:
    rest = list(world.redrivers)
    rest.remove(redriver)
    letter = next(e for e in world.letters if (e.id, e.epoch) == redriver[:2])
    if redriver.sent:
        after = world._replace(redrivers=tuple(rest))
        if letter.state == LetterState.REDRIVING:
            after = store.end_redrive(after, letter)
        yield Step(f"the redrive of {redriver.id} ends", after)
    else:
        sent = tuple(sorted((*rest, redriver._replace(sent=True))))
        copy = _copy(letter, world.job(redriver.id).ledger.redrives)
        after = world.with_message(copy, due=True)._replace(redrivers=sent)
        yield Step(f"the redrive of {redriver.id} is published", after)
    if world.kills:
        after = world._replace(kills=world.kills - 1, redrivers=tuple(rest))
        yield Step(f"the redriver of {redriver.id} is killed", after, forward=False)


@cache
def _copy(entry: Entry, redrives: int) -> int:
    message = message_of(entry.message)
    letter: Letter = read_letter(message, queue="q", level="normal")
    redrive = Redrive(
        letter=letter,
        epoch=entry.copy_epoch,
        redrives=redrives,
        first_at=letter.at,
        expires_at=None,
    )
    return number_of(redriven(redrive)[1])


def _time(world: World, scenario: Scenario) -> Iterator[Step]:
    if scenario.deadline and not world.late:
        yield Step("the deadline passes", world._replace(late=True))
    for waiting in dict.fromkeys(world.queue):
        if not waiting.due:
            after = world.without_message(waiting).with_message(waiting.message, due=True)
            yield Step("a message is due", after)
    for job_id, job in zip(IDS, world.jobs, strict=True):
        record = job.record
        if record is None:
            continue
        if record.due_at is not None and record.due_at > world.now.wall:
            due = record._replace(due_at=world.now.wall)
            yield Step(f"{job_id} is due", world.with_job(job_id, job._replace(record=due)))
        if record.lease_until:
            yield from _lapse(world, job_id, record.owner, record.fence)


def _lapse(world: World, job_id: str, owner: str | None, fence: int) -> Iterator[Step]:
    """End the lease of who is dead; who lives loses it as a fault (a worker's own steps do)."""
    if owner == OWNER:
        if not any(_is_holder(slot, job_id, fence) for slot in world.slots):
            yield Step(f"the dead worker's lease on {job_id} lapses", lapse_record(world, job_id))
        return
    if not any(p.reserves and p.stage == Sending.START for p in world.publishers):
        return  # nobody would look
    busy = {Sending.RESERVED, Sending.TAKEN}
    alive = any(p.name == owner and p.stage in busy for p in world.publishers)
    if not alive or world.losses:
        after = lapse_record(world, job_id)._replace(losses=world.losses - alive)
        yield Step(f"the reservation of {job_id} lapses", after, forward=not alive)


def _is_holder(slot: Slot, job_id: str, fence: int) -> bool:
    return (
        slot.stage in {Stage.CLAIMED, Stage.RAN}
        and slot.claimed is not None
        and slot.claimed.fence == fence
        and head_of(slot.message).id == job_id
    )
