"""What the store forgets, and when; one call is one short transaction."""

from __future__ import annotations

from brokerq.store import Retention
from brokerq_postgres.transaction import Transaction
from brokerq_postgres.wire import texts, unescape


async def prune(transaction: Transaction, retention: Retention, *, limit: int) -> int:
    """Remove up to `limit` things that are past their time; return how many."""
    app: dict[str, object] = {"app": transaction.app}
    removed = len(await transaction.fetch("clear_results", {**app, "limit": limit}))
    if removed < limit:
        removed += await _prune_letters(transaction, retention, limit - removed)
    if removed < limit:
        removed += await _prune_shown(transaction, retention, limit - removed)
    if removed < limit:
        values = {**app, "limit": limit - removed}
        removed += len(await transaction.fetch("remove_hidden_jobs", values))
    if removed < limit:
        values = {**app, "dead": retention.dead, "limit": limit - removed}
        removed += len(await transaction.fetch("remove_orphans", values))
    return removed


async def _prune_letters(transaction: Transaction, retention: Retention, limit: int) -> int:
    values = {"app": transaction.app, "dead": retention.dead, "limit": limit}
    rows = await transaction.fetch("remove_old_letters", values)
    await _hide(transaction, [job_id for job_id, state in rows if state == "open"], retention)
    return len(rows)


async def _prune_shown(transaction: Transaction, retention: Retention, limit: int) -> int:
    values = {
        "app": transaction.app,
        "finished": retention.finished,
        "most": retention.finished_count,
        "limit": limit,
    }
    rows = await transaction.fetch("find_ended", values)
    return await _hide(transaction, [job_id for (job_id,) in rows], retention)


async def _hide(transaction: Transaction, ids: list[str], retention: Retention) -> int:
    """Leave only what the rules need; the ids are as they are kept."""
    if not ids:
        return 0
    array = texts([unescape(job_id) for job_id in ids])
    values = {"app": transaction.app, "ids": array, "unsaid": retention.dead}
    return len(await transaction.fetch("hide_jobs", values))
