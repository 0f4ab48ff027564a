"""The demo: it ends well, its numbers add up, and it notices when the books do not agree."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from brokerq.demo import run as demo
from brokerq.demo.check import Account, disagreements
from brokerq.demo.faults import SHARES, Fault, plan
from brokerq.demo.ledger import Entries, read_entries
from brokerq.demo.run import run_demo
from brokerq.errors import CapabilityError, ConfigurationError
from brokerq.record import State

ROWS = 150
TWICE = 8
"""Two halves of 5 % of 150 rows, each rounded."""


@pytest.fixture
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("BROKERQ_URL", "BROKERQ_STORE_URL"):
        monkeypatch.delenv(name, raising=False)


def table(shown: str, title: str) -> dict[str, int]:
    """Return the numbers below a title, by label."""
    _, _, rest = shown.partition(f"{title}\n")
    body = rest.partition("\n\n")[0]
    lines = re.findall(r"^(\S.*?) {2,}([\d,]+)(?:[* ]|$)", body, re.MULTILINE)
    return {label: int(number.replace(",", "")) for label, number in lines}


def test_the_demo_loses_nothing_and_its_numbers_add_up(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BROKERQ_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "brokerq", "demo", "--rows", str(ROWS)],
        capture_output=True,
        check=False,
        env={**environment, "TMPDIR": str(tmp_path)},
        text=True,
        timeout=100,
    )
    shown = done.stdout

    assert (done.returncode, done.stderr) == (0, ""), shown
    assert "killed with SIGKILL in the middle" in shown
    assert "every row took effect exactly once,\nor is dead with a reason; none lost." in shown
    faults = list(plan(ROWS, 1).values())
    first, last = table(shown, "After the first run"), table(shown, "After the repair")
    for numbers in (first, last):
        dead = sum(count for label, count in numbers.items() if label.startswith("dead: "))
        assert numbers["rows"] == ROWS == numbers["succeeded"] + dead
        assert numbers["calls"] >= numbers["effects"] >= numbers["succeeded"]
    assert first["published"] == ROWS + TWICE
    assert first["duplicates absorbed"] == TWICE
    assert first["dead: rejected"] == faults.count(Fault.REFUSED) + faults.count(Fault.INVALID)
    assert last["dead: rejected"] == faults.count(Fault.INVALID) == ROWS - last["effects"]
    assert last["redriven"] == first["dead: rejected"] + first["dead: exhausted"]
    assert last["lost"] == 0


@dataclass(frozen=True)
class Told:
    """A run whose ledger was falsified before it was compared, and what the demo made of it."""

    code: int
    shown: str
    account: Account


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    accounts: list[Account] = []
    lines: list[str] = []

    def forget_an_effect(path: Path) -> Entries:
        entries = read_entries(path)
        lost = min(entries.effects)
        return replace(entries, effects={k: v for k, v in entries.effects.items() if k != lost})

    def remember(account: Account) -> list[str]:
        accounts.append(account)
        return disagreements(account)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "read_entries", forget_an_effect)
        patch.setattr(demo, "disagreements", remember)
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("demo")))
        patch.delenv("BROKERQ_URL", raising=False)
        code = run_demo(None, 40, 7, lines.append)
        [account] = accounts
        # What the ledger really says, for those who falsify something else.
        [path] = Path(tempfile.gettempdir()).glob("brokerq-demo-*/ledger.db")
        account = replace(account, entries=read_entries(path))
    return Told(code=code, shown="\n".join(lines), account=account)


def test_a_ledger_that_misses_an_effect_fails_the_demo(told: Told) -> None:
    assert told.code == 1
    assert "The books do not agree" in told.shown
    assert "- lost: neither an effect nor a dead letter: row" in told.shown
    assert "- succeeded without an effect in the ledger: row" in told.shown
    assert table(told.shown, "After the repair")["lost"] == 1


def test_books_that_agree_are_not_doubted(told: Told) -> None:
    assert disagreements(told.account) == []


def forget_a_record(account: Account) -> Account:
    return replace(account, records=account.records[1:])


def forget_the_letters(account: Account) -> Account:
    return replace(account, letters=[])


def run_a_job_still(account: Account) -> Account:
    first = replace(account.records[0], state=State.RUNNING)
    return replace(account, records=[first, *account.records[1:]])


def alter_an_effect(account: Account) -> Account:
    key = next(iter(account.entries.effects))
    effects = {**account.entries.effects, key: '{"record": {}}'}
    return replace(account, entries=replace(account.entries, effects=effects))


def give_a_dead_row_an_effect(account: Account) -> Account:
    [row, *_] = account.invalid
    effects = {**account.entries.effects, account.keys[row]: '{"record": {}}'}
    return replace(account, entries=replace(account.entries, effects=effects))


def add_a_stranger(account: Account) -> Account:
    effects = {**account.entries.effects, "register:other/1": "{}"}
    return replace(account, entries=replace(account.entries, effects=effects))


def forget_the_calls(account: Account) -> Account:
    return replace(account, entries=replace(account.entries, called={}, statuses={}))


def run_a_duplicate(account: Account) -> Account:
    return replace(account, absorbed=account.absorbed - 1)


def kill_a_good_row(account: Account) -> Account:
    return replace(account, invalid=())


@pytest.mark.parametrize(
    ("falsify", "complaint"),
    [
        (forget_a_record, "no record: row"),
        (forget_the_letters, "dead without a dead letter: row"),
        (run_a_job_still, "neither succeeded nor dead: row"),
        (alter_an_effect, "registered with other contents: row"),
        (give_a_dead_row_an_effect, "both an effect and a dead letter: row"),
        (add_a_stranger, "1 effects belong to no row"),
        (forget_the_calls, "an effect without a call: rows"),
        (run_a_duplicate, "2 rows were published twice, 1 were absorbed"),
        (kill_a_good_row, "dead for no fault of the row: row"),
    ],
)
def test_every_kind_of_disagreement_is_named(
    told: Told, falsify: Callable[[Account], Account], complaint: str
) -> None:
    found = disagreements(falsify(told.account))

    assert any(sentence.startswith(complaint) for sentence in found), found


@pytest.mark.usefixtures("_own_folder")
class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"code,name\n", "has no rows below its header"),
            (b"", "has no rows below its header"),
            (b"code,name\nA,B,C\n", "line 2: more cells than the header has columns"),
            (b"code,name\n\xff\xfe,B\n", "is not a CSV file in UTF-8"),
        ],
    )
    def test_a_file_that_holds_no_rows_is_refused(
        self, tmp_path: Path, content: bytes, complaint: str
    ) -> None:
        file = tmp_path / "rows.csv"
        file.write_bytes(content)

        with pytest.raises(ConfigurationError, match=complaint):
            run_demo(file, None, 0, print)

    def test_a_file_that_is_missing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
            run_demo(tmp_path / "rows.csv", None, 0, print)

    def test_a_broker_that_lives_in_one_process_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BROKERQ_URL", "memory://")

        with pytest.raises(ConfigurationError, match="memory:// ends with its process"):
            run_demo(None, 1, 0, print)

    def test_a_broker_without_records_is_refused_before_anything_starts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BROKERQ_URL", f"sqlite:///{tmp_path / 'queue.db'}")
        monkeypatch.setenv("BROKERQ_STORE_URL", "none://")

        with pytest.raises(CapabilityError, match="nothing is remembered"):
            run_demo(None, 1, 0, print)


@pytest.mark.parametrize("rows", [1, 3, len(SHARES), 150, 3000])
def test_faults_depend_on_rows_and_seed_alone(rows: int) -> None:
    faults = plan(rows, 5)

    assert faults == plan(rows, 5)
    assert set(faults) <= set(range(1, rows + 1))
    assert len(set(faults.values())) == min(rows, len(SHARES))
