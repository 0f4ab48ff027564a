"""Rows as the statements take them: an array for each column. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq.records import KeyRecord
from brokerq_postgres.rows import Row
from brokerq_postgres.transaction import Values
from brokerq_postgres.wire import arrays, scalars, texts

_RULES = (
    "ids states first_ats epochs claimed attempts crashes fences owners leases due_ats expires_ats "
    "keys redrives cancelling"
)
_NAMES = {
    "add_jobs": f"{_RULES} jobs queues levels user_keys tags correlations causes workers histories "
    "notes ended_ats",
    "write_records": _RULES,
    "take_jobs": "ids epochs attempts crashes fences owners leases due_ats trimmed lines",
    "move_jobs": "ids states epochs claimed attempts crashes owners leases due_ats cancelling "
    "trimmed lines failures notes results result_untils ended_ats was_due_ats keep_untils",
    "redrive_jobs": "ids states first_ats epochs claimed attempts crashes expires_ats keys "
    "redrives cancelling trimmed lines",
    "renew_leases": "ids leases",
}
_COLUMNS = {name: tuple(columns.split()) for name, columns in _NAMES.items()}
_TEXT_COLUMNS = (
    "ids states owners keys jobs queues levels user_keys tags correlations causes workers "
    "histories notes trimmed lines failures"
)
_TEXTS = frozenset(_TEXT_COLUMNS.split())
_BYTES = frozenset({"results"})


def values(statement: str, rows: Sequence[Row]) -> Values:
    """Return the rows of that statement."""
    return arrays(_COLUMNS[statement], rows, text=_TEXTS, binary=_BYTES)


def payloads(rows: Sequence[tuple[str, str, bytes]]) -> Values:
    """Return ids, headers and bodies."""
    ids, headers, bodies = zip(*rows, strict=True)
    return {"ids": texts(ids), "headers": texts(headers), "bodies": list(bodies)}


def keys(holders: Sequence[KeyRecord]) -> Values:
    """Return who holds which key."""
    return {
        "keys": texts([holder.key for holder in holders]),
        "ids": texts([holder.job_id for holder in holders]),
        "fingerprints": texts([holder.fingerprint for holder in holders]),
        "expires_ats": scalars(holder.expires_at for holder in holders),
    }
