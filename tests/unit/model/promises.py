"""What must be true of every world, and of every world in which nothing is left to do."""

from brokerq.catalogue import LetterState
from brokerq.records import BURIED, ENDED, CancelAnswer, Record, State
from tests.unit.model import store
from tests.unit.model.messages import head_of
from tests.unit.model.world import IDS, POLICY, Job, Sending, Stage, ViolationError, World


def check(world: World) -> None:
    for job_id, job in zip(IDS, world.jobs, strict=True):
        if job.ledger.taken:
            _check_kept(world, job_id, job)
        if job.record is not None:
            _check_budgets(job, job.record)
            _check_end(job, job.record)
    _check_key(world)


def _check_kept(world: World, job_id: str, job: Job) -> None:
    """Demand that what has not ended is carried by something."""
    record = job.record
    if record is not None and record.state in ENDED:
        return
    if record is not None and record.state == State.RESERVED and not _is_published(world, job_id):
        return
    if any(head_of(waiting.message).id == job_id for waiting in world.queue):
        return
    held = (slot for slot in world.slots if slot.stage != Stage.IDLE and not slot.lost)
    if any(head_of(slot.message).id == job_id for slot in held):
        return
    letter = store.newest_letter(world, job_id)
    if letter is None or letter.state != LetterState.REDRIVING:
        state = None if record is None else record.state
        raise ViolationError(f"P1: {job_id} is {state}, and nothing in the broker will move it")


def _is_published(world: World, job_id: str) -> bool:
    return world.job(job_id).ledger.taken


def _check_budgets(job: Job, record: Record) -> None:
    ledger = job.ledger
    running = record.state == State.RUNNING
    if ledger.unrecorded > record.crashes + running:
        raise ViolationError(
            f"P3: {ledger.unrecorded} runs left no record, {record.crashes} blamed"
        )
    if ledger.unrecorded > POLICY.max_crashes + running:
        raise ViolationError(f"P3: {ledger.unrecorded} runs were lost, the budget is spent")
    if ledger.failures > POLICY.max_attempts:
        raise ViolationError(f"P3: {ledger.failures} failures were recorded")


def _check_end(job: Job, record: Record) -> None:
    ended, cancel = job.ledger.ended, job.ledger.cancel
    if ended is not None and record.state != ended:
        raise ViolationError(f"P2: the job ended as {ended} and is {record.state}")
    if cancel == CancelAnswer.CANCELLED and record.state != State.CANCELLED:
        raise ViolationError(f"the job was cancelled and is {record.state}")
    if cancel == CancelAnswer.REQUESTED and record.state not in ENDED | {State.RUNNING}:
        raise ViolationError(f"the job was to be cancelled and is {record.state}")


def _check_key(world: World) -> None:
    """Demand that of two jobs with one key only one is live or has succeeded."""
    holders = [
        job.record
        for job in world.jobs
        if job.record is not None
        and job.record.key is not None
        and (job.record.state not in ENDED or job.record.state == State.SUCCEEDED)
    ]
    if len(holders) > 1:
        raise ViolationError(f"P2: one key, two jobs: {[record.state for record in holders]}")
    if holders and (world.key is None or world.key.job_id != holders[0].id):
        raise ViolationError(f"P2: {holders[0].id} is {holders[0].state} without its key")


def check_quiescent(world: World) -> None:
    if world.queue or any(slot.stage != Stage.IDLE for slot in world.slots):
        raise ViolationError("P5: something is held for ever")
    if any(p.stage != Sending.OVER for p in world.publishers):
        raise ViolationError("a publisher waits for ever")
    for job_id, job in zip(IDS, world.jobs, strict=True):
        if job.ledger.taken or job.ledger.promised:
            _check_ended(world, job_id, job)


def _check_ended(world: World, job_id: str, job: Job) -> None:
    record = job.record
    if record is None or record.state not in ENDED:
        state = None if record is None else record.state
        raise ViolationError(f"P1: {job_id} is {state} for ever")
    if record.state not in BURIED:
        return
    letter = store.newest_letter(world, job_id)
    if letter is None or letter.epoch != record.epoch or letter.state != LetterState.OPEN:
        raise ViolationError(f"P1: {job_id} is {record.state}, the catalogue has {letter}")
    if (job_id, record.epoch) not in world.dead:
        raise ViolationError(f"P1: {job_id} is {record.state}, no dead letter was confirmed")
