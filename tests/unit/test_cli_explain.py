"""What `brokerq explain` says, and the table of capabilities."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from brokerq_memory.broker import CAPABILITIES as MEMORY
from brokerq_sqlite.broker import CAPABILITIES as SQLITE

from brokerq import BrokerQ
from brokerq.broker import Capabilities, Ordering, QueueSpec
from brokerq.errors import CapabilityError
from brokerq.explain import capability_table, explanation, needs, refuse_long_runs
from tests.unit.cli_app import Shop, open_shop

PLAIN: Capabilities = replace(
    MEMORY,
    ordering=Ordering.NONE,
    max_levels=2,
    max_delay=timedelta(minutes=15),
    max_body=256 * 1024,
    lease=None,
    max_hold=None,
)


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Generator[Shop]:
    with open_shop(tmp_path, monkeypatch, capsys) as opened:
        yield opened


def test_the_table_has_a_column_for_each_broker_and_a_row_for_each_capability() -> None:
    lines = capability_table([("memory", MEMORY), ("sqlite", SQLITE), ("x", PLAIN)]).splitlines()
    assert lines[0] == "|  | `memory://` | `sqlite://` | `x://` |"
    assert {line.count("|") for line in lines} == {5}
    assert (
        "| a confirmed message survives | nothing beyond the process | a crash of the host "
        "| nothing beyond the process |" in lines
    )
    assert "| longest delay | any | any | 15m; the core adds any |" in lines
    assert "| largest message | 1 MiB | 16 MiB | 256 KiB |" in lines
    assert len(lines) - 2 == 11


def test_what_a_queue_needs_and_the_broker_cannot_keep_is_said() -> None:
    many = QueueSpec(name="many", levels=("a", "b", "c"), ordered=True)
    plain = QueueSpec(name="plain")
    assert [(n.what, n.kept) for n in needs([plain, many], PLAIN)] == [
        ("3 priorities (a, b, c)", False),
        ("order", False),
    ]
    assert all(need.kept for need in needs([plain, many], MEMORY))
    text = explanation(where="x", can=PLAIN, stored=True, queues=[plain, many])
    assert "NOT KEPT: order: the broker keeps no order" in text
    assert "needs nothing special" in text


def test_a_job_that_may_run_for_too_long_is_told_and_refused() -> None:
    bq = BrokerQ("shop", url="memory://")

    @bq.job(timeout="30m")
    async def brief() -> None: ...

    @bq.job(timeout="30m1s")
    async def long() -> None: ...

    @bq.job(queue="slow", timeout=None)
    async def endless() -> None: ...

    jobs = bq.registry.jobs.values()
    queues = [queue.spec for queue in bq.registry.queues.values()]
    limited = replace(MEMORY, max_hold=timedelta(minutes=30))
    assert needs(queues, MEMORY, jobs) == []
    refuse_long_runs(jobs, MEMORY)
    assert [(n.queue, n.what, n.kept) for n in needs(queues, limited, jobs)] == [
        ("default", "job 'long' has timeout=30m1s", False),
        ("slow", "job 'endless' has timeout=None", False),
    ]
    text = explanation(where="x", can=limited, stored=True, queues=queues, jobs=jobs)
    assert "NOT KEPT: job 'long' has timeout=30m1s: the broker takes back what runs for 30m" in text
    with pytest.raises(
        CapabilityError, match=r"'long'.*30m1s.*30m.*a timeout below that.*'endless'"
    ):
        refuse_long_runs(jobs, limited)


def test_an_order_that_bars_delays_is_said() -> None:
    [need] = needs([QueueSpec(name="q", ordered=True)], replace(MEMORY, delayed_ordering=False))
    assert need.kept
    assert "a delay is refused" in need.how


def test_an_order_that_bars_delays_needs_a_store() -> None:
    ordered = [QueueSpec(name="q", ordered=True)]
    [need] = needs(ordered, replace(MEMORY, delayed_ordering=False), stored=False)
    assert not need.kept
    assert "lose their place" in need.how
    assert all(need.kept for need in needs(ordered, MEMORY, stored=False))


def test_an_app_is_explained_with_its_queues(shop: Shop) -> None:
    text = shop.do("explain")
    assert text.startswith("broker and store: memory://")
    assert "kept: 2 priorities (high, normal)" in text
    assert "Without a store" not in text


def test_a_url_is_explained_without_an_app_and_without_its_credentials(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROKERQ_APP")
    monkeypatch.setenv("BROKERQ_STORE_URL", "none://")
    document = shop.read("explain", "sqlite:///jobs.db")
    assert document["where"].startswith(f"broker: sqlite:///{shop.folder}/jobs.db; store: none")
    assert document["store"] is False
    assert document["capabilities"]["lease_seconds"] == 30
    assert document["capabilities"]["max_delay_seconds"] is None
    assert document["capabilities"]["max_hold_seconds"] is None
    assert list(shop.folder.glob("*.db")) == []
    assert "Without a store there is no:\n  - idempotency" in shop.do("explain", "memory://")


def test_without_url_and_app_there_is_nothing_to_explain(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROKERQ_APP")
    monkeypatch.delenv("BROKERQ_URL")
    code, _, err = shop.run("explain")
    assert code == 2
    assert "name a URL, or an app" in err


def test_an_unknown_url_is_told_with_the_nearest(shop: Shop) -> None:
    code, _, err = shop.run("explain", "sqlit:///jobs.db")
    assert code == 2
    assert "did you mean sqlite://?" in err
