"""What a memory store forgets, and when; called with the state's lock held.

Heaps say what is next, so that the work is bounded by what is removed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from heapq import heappop

from brokerq.catalogue import LetterState
from brokerq.records import BURIED, ENDED, Now, State
from brokerq.store import Retention
from brokerq_memory.ledger import Entry, Ledger
from brokerq_memory.letters import end_redriving


def prune(ledger: Ledger, retention: Retention, *, limit: int, now: Now) -> int:
    """Remove up to `limit` results, dead letters, shown and hidden records; return how many."""
    removed = 0
    for step in (_prune_results, _prune_letters, _prune_shown, _prune_hidden):
        removed += step(ledger, retention, limit - removed, now.wall)
    return removed + _prune_orphans(ledger, retention, limit - removed, now)


def _prune_orphans(ledger: Ledger, retention: Retention, limit: int, now: Now) -> int:
    """Forget what was reserved and never heard of again.

    If the message is in the broker after all, its first claim records the job anew.
    """
    removed = 0
    heap = ledger.reservations
    while heap and removed < limit and heap[0][0] <= now.wall - retention.dead:
        entry = ledger.entries.get(heap[0][2])
        if entry is not None and entry.record.state == State.RESERVED:
            if entry.record.lease_until > now.lease:
                break  # another publisher is at it; its lease is short
            ledger.drop_key(entry.record)
            del ledger.entries[entry.record.id]
            removed += 1
        heappop(heap)
    return removed


def _prune_results(ledger: Ledger, _: Retention, limit: int, now: datetime) -> int:
    removed = 0
    heap = ledger.results
    while heap and removed < limit and heap[0][0] <= now:
        entry = ledger.entries.get(heappop(heap)[2])
        if entry is not None and entry.result is not None:
            entry.result = None
            removed += 1
    return removed


def _prune_letters(ledger: Ledger, retention: Retention, limit: int, now: datetime) -> int:
    removed = 0
    heap = ledger.deaths
    while heap and removed < limit and heap[0][0] <= now - retention.dead:
        _, _, job_id, epoch = heappop(heap)
        filed = ledger.letters.get(job_id, {})
        one = filed.get(epoch)
        # Without its letter a redrive whose copy is not confirmed could not be taken up again.
        if one is None or one.letter.state == LetterState.REDRIVING:
            continue
        del filed[epoch]
        if not filed:
            del ledger.letters[job_id]
        removed += 1
        entry = ledger.entries.get(job_id)
        if entry is not None and one.letter.state == LetterState.OPEN:
            _hide(ledger, entry, retention.dead)
    return removed


def _prune_shown(ledger: Ledger, retention: Retention, limit: int, now: datetime) -> int:
    removed = 0
    heap = ledger.ended
    oldest = now - retention.finished
    while heap and removed < limit:
        if heap[0][0] > oldest and len(heap) <= retention.finished_count:
            break
        entry = ledger.entries.get(heappop(heap)[2])
        if entry is not None:
            removed += _hide(ledger, entry, retention.dead)
    return removed


def _hide(ledger: Ledger, entry: Entry, unsaid: timedelta) -> bool:
    """Keep only what the rules need; False where that is so already.

    Where nobody said for how long (the job was cancelled, or a duplicate, and no worker gave its
    window) it is kept for `unsaid` after its message may have come up for the last time.
    """
    record = entry.record
    if entry.job is None or record.state not in ENDED or entry.ended_at is None:
        return False
    until = entry.until
    if until is None:
        until = max(entry.ended_at, entry.was_due_at or entry.ended_at) + unsaid
    ledger.push(ledger.hidden, until, record.id)
    entry.forget()
    return True


def _prune_hidden(ledger: Ledger, _: Retention, limit: int, now: datetime) -> int:
    removed = 0
    heap = ledger.hidden
    while heap and removed < limit and heap[0][0] <= now:
        job_id = heappop(heap)[2]
        entry = ledger.entries.get(job_id)
        if entry is None or entry.job is not None:
            continue
        if entry.record.state not in BURIED:
            end_redriving(ledger, job_id)  # it ended, so its copy had come
        ledger.drop_key(entry.record)
        del ledger.entries[job_id]
        removed += 1
    return removed
