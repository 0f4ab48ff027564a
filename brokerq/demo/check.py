"""The verdict on the whole run: rows, service's ledger and brokerq's records must agree. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from brokerq.catalogue import Letter, LetterState
from brokerq.demo.ledger import Entries
from brokerq.demo.rows import Row
from brokerq.record import State
from brokerq.store import JobView

SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything that is known of a run when nothing is left to do.

    Attributes:
        rows: By their numbers from 1.
        ids: The job id that the publish of each row returned, by row.
        keys: The idempotency key that the service was to get, by row.
        twice: How many rows were published a second time.
        absorbed: How many publishes returned the job that was there already.
        records: All records of this run.
        letters: The newest dead letter of each job that has one, whatever its state.
        entries: The service's ledger.
        invalid: Rows that the service never takes.
    """

    rows: Mapping[int, Row]
    ids: Mapping[int, str]
    keys: Mapping[int, str]
    twice: int
    absorbed: int
    records: Sequence[JobView]
    letters: Sequence[Letter]
    entries: Entries
    invalid: Collection[int]

    def with_effect(self) -> set[int]:
        """Return the rows that took effect, says the service."""
        return {row for row, key in self.keys.items() if key in self.entries.effects}

    def with_letter(self) -> set[int]:
        """Return the rows that are dead with a reason, says brokerq."""
        dead = {letter.job_id for letter in self.letters if letter.state is LetterState.OPEN}
        return {row for row, job_id in self.ids.items() if job_id in dead}

    def lost(self) -> set[int]:
        """Return the rows that nobody knows anything of."""
        return set(self.rows) - self.with_effect() - self.with_letter()


def disagreements(account: Account) -> list[str]:
    """Return a sentence for everything that does not fit; none: every row is accounted for."""
    records = {view.id: view for view in account.records}
    effects = account.entries.effects
    with_effect, with_letter = account.with_effect(), account.with_letter()
    state = {row: records[i].state for row, i in account.ids.items() if i in records}
    succeeded = {row for row, now in state.items() if now is State.SUCCEEDED}
    buried = {row for row, now in state.items() if now is State.DEAD}
    every = set(account.rows)
    altered = {
        row
        for row in with_effect
        if json.loads(effects[account.keys[row]])["record"] != account.rows[row]
    }
    uncalled = {row for row in with_effect if account.keys[row] not in account.entries.called}
    findings = {
        "lost: neither an effect nor a dead letter": account.lost(),
        "both an effect and a dead letter": with_effect & with_letter,
        "no record": every - set(state),
        "neither succeeded nor dead": set(state) - succeeded - buried,
        "succeeded without an effect in the ledger": succeeded - with_effect,
        "an effect in the ledger without success": with_effect - succeeded,
        "dead without a dead letter": buried - with_letter,
        "a dead letter, but not dead": with_letter - buried,
        "registered with other contents": altered,
        "an effect without a call": uncalled,
        "never to be taken, but not dead": set(account.invalid) - buried,
        "dead for no fault of the row": buried - set(account.invalid),
    }
    return [
        *(f"{what}: {_rows(rows)}" for what, rows in findings.items() if rows),
        *_counts(account, records),
    ]


def _counts(account: Account, records: Mapping[str, JobView]) -> list[str]:
    foreign = len(set(account.entries.effects) - set(account.keys.values()))
    extra = len(set(records) - set(account.ids.values()))
    checks = [
        (foreign, f"{foreign} effects belong to no row"),
        (extra, f"{extra} records belong to no row"),
        (
            len(account.records) != len(records),
            f"{len(account.records) - len(records)} records came twice",
        ),
        (
            len(set(account.ids.values())) != len(account.rows),
            "two rows were given the same job id",
        ),
        (
            account.absorbed != account.twice,
            f"{account.twice} rows were published twice, {account.absorbed} were absorbed",
        ),
        (
            account.entries.calls < len(account.entries.effects),
            f"{account.entries.calls} calls cannot have had {len(account.entries.effects)} effects",
        ),
    ]
    return [sentence for wrong, sentence in checks if wrong]


def _rows(rows: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(rows)[:SHOWN]))
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
