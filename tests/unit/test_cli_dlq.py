"""The command line: dead letters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from brokerq.cli.bulk import Skip, in_batches
from brokerq.cli.parameters import Rate
from brokerq.errors import ConnectionLostError
from tests.unit.cli_app import JsonObject, Shop, open_shop


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Generator[Shop]:
    with open_shop(tmp_path, monkeypatch, capsys) as opened:
        yield opened


@pytest.fixture
def dead(shop: Shop) -> list[str]:
    """Three dead letters, ids oldest first: exhausted, rejected, exhausted."""
    ids = [shop.charge("o-1", 13), shop.charge("o-2", -1), shop.charge("o-3", 13)]
    shop.work()
    return ids


def listed(shop: Shop, *filters: str) -> list[str]:
    return [letter["id"] for letter in shop.read("dlq", "ls", *filters)["letters"]]


def state_of(shop: Shop, job_id: str) -> JsonObject:
    letter: JsonObject = shop.read("dlq", "show", job_id)["letter"]
    return letter


def test_dead_letters_are_listed_oldest_first_and_filtered(shop: Shop, dead: list[str]) -> None:
    assert listed(shop) == dead
    assert listed(shop, "--limit=2") == dead[:2]
    assert listed(shop, "--reason=rejected") == [dead[1]]
    assert listed(shop, "--error=ValueError") == [dead[0], dead[2]]
    group = state_of(shop, dead[0])["group"]
    assert listed(shop, f"--group={group}") == [dead[0], dead[2]]
    assert listed(shop, "--job=charge", "--queue=payments", "--newer-than=1h") == dead
    assert listed(shop, "--job=pid") == []
    assert listed(shop, "--older-than=1h") == []
    assert listed(shop, dead[1], "nobody") == [dead[1]]
    assert listed(shop, "--state=resolved", "--state=discarded") == []
    assert [json.loads(line)["id"] for line in shop.do("dlq", "ls", "--jsonl").splitlines()] == dead
    assert len(shop.do("dlq", "ls").splitlines()) == 4


def test_a_dead_letter_is_shown_with_why_and_what(shop: Shop, dead: list[str]) -> None:
    letter = state_of(shop, dead[0])
    assert letter["payload"] == {"order_id": "o-1", "cents": 13}
    assert (letter["reason"], letter["error_message"]) == ("exhausted", "unlucky")
    assert 'raise ValueError("unlucky")' in letter["traceback"]
    text = shop.do("dlq", "show", dead[0])
    assert "  ValueError: unlucky" in text.splitlines()
    assert shop.run("dlq", "show", "nobody")[0] == 3


def test_an_export_holds_headers_and_body_exactly(shop: Shop, dead: list[str]) -> None:
    file = shop.folder / "letters.jsonl"
    shop.do("dlq", "export", "--reason=exhausted", "--output", str(file))
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [dead[0], dead[2]]
    assert lines[0]["body"] == '{"order_id":"o-1","cents":13}'
    assert lines[0]["headers"]["bq-key"] == "o-1"
    code, out, err = shop.run("dlq", "export")
    assert (code, len(out.splitlines()), err) == (0, 3, "exported 3\n")


def test_redriven_letters_run_again(shop: Shop, dead: list[str]) -> None:
    (shop.folder / "repaired").touch()
    assert shop.do("dlq", "redrive", "--error=ValueError", "--by=me") == "redriven 2, skipped 0"
    assert listed(shop) == [dead[1]]
    assert state_of(shop, dead[0])["state"] == "redriven"
    shop.work()
    states = {job["id"]: job["state"] for job in shop.read("jobs", "ls")["jobs"]}
    assert [states[each] for each in dead] == ["succeeded", "dead", "succeeded"]


def test_a_dry_run_lists_and_changes_nothing(shop: Shop, dead: list[str]) -> None:
    for command in ("redrive", "resolve", "discard"):
        document = shop.read("dlq", command, "--reason=rejected", "--dry-run")
        assert [letter["id"] for letter in document["letters"]] == [dead[1]]
    document = shop.read("dlq", "purge", "payments", "--dry-run")
    assert [letter["id"] for letter in document["letters"]] == dead
    code, _, err = shop.run("dlq", "redrive", "--all", "--dry-run")
    assert (code, err) == (0, "3 would be redriven\n")
    assert listed(shop) == dead


@pytest.mark.parametrize("command", ["redrive", "resolve", "discard"])
def test_everything_has_to_be_asked_for(shop: Shop, dead: list[str], command: str) -> None:
    code, out, err = shop.run("dlq", command, "--limit=1")
    assert (code, out) == (4, "")
    assert "--all" in err
    assert listed(shop) == dead


def test_what_is_skipped_is_named_and_the_exit_code_says_partial(
    shop: Shop, dead: list[str]
) -> None:
    shop.do("dlq", "resolve", dead[0])
    code, out, err = shop.run("dlq", "resolve", *dead[:2], "nobody", "--note=refunded")
    assert (code, out) == (6, "resolved 1, skipped 2\n")
    assert f"skipped {dead[0]}: it is resolved, not open" in err
    assert "skipped nobody: there is no dead letter of this job" in err
    assert shop.run("dlq", "resolve", dead[0])[0] == 4
    assert shop.run("dlq", "resolve", "nobody")[0] == 3
    letter = state_of(shop, dead[1])
    assert (letter["state"], letter["note"]) == ("resolved", "refunded")
    code, out, _ = shop.run("dlq", "redrive", "--json", dead[0], dead[2])
    assert code == 6
    assert json.loads(out)["redriven"] == [dead[2]]
    assert [each["id"] for each in json.loads(out)["skipped"]] == [dead[0]]


def test_the_third_redrive_needs_force(shop: Shop, dead: list[str]) -> None:
    for _ in range(2):
        shop.do("dlq", "redrive", dead[0])
        shop.work()
    code, _, err = shop.run("dlq", "redrive", dead[0])
    assert code == 4
    assert "skipped" in err
    assert shop.do("dlq", "redrive", dead[0], "--force") == "redriven 1, skipped 0"


def test_discarding_needs_yes(shop: Shop, dead: list[str]) -> None:
    code, out, err = shop.run("dlq", "discard", dead[0])
    assert (code, out) == (4, "")
    assert "add --yes" in err
    assert listed(shop) == dead
    assert shop.do("dlq", "discard", dead[0], "--yes") == "discarded 1, skipped 0"
    assert state_of(shop, dead[0])["state"] == "discarded"
    assert shop.read("queues", "ls")["queues"][0]["dead"] == 2


def test_purging_discards_every_letter_of_one_queue(shop: Shop, dead: list[str]) -> None:
    assert shop.run("dlq", "purge", "payments")[0] == 4
    assert shop.run("dlq", "purge", "payment", "--yes")[0] == 3
    assert shop.do("dlq", "purge", "default", "--yes") == "discarded 0, skipped 0"
    assert shop.do("dlq", "purge", "payments", "--yes") == "discarded 3, skipped 0"
    assert listed(shop) == []
    assert listed(shop, "--state=any") == dead


def test_a_limit_holds_for_ids_and_for_filters(shop: Shop, dead: list[str]) -> None:
    assert shop.do("dlq", "resolve", *dead, "--limit=1") == "resolved 1, skipped 0"
    assert shop.do("dlq", "resolve", "--all", "--limit=1") == "resolved 1, skipped 0"
    assert listed(shop) == [dead[2]]


@pytest.mark.parametrize("rate", ["fast", "0/s", "5", "5/d"])
def test_a_rate_that_is_none_is_refused(shop: Shop, rate: str) -> None:
    code, _, err = shop.run("dlq", "redrive", "--all", "--rate", rate)
    assert code == 2
    assert "write 50/s" in err


class Doer:
    """Does batches; remembers them, and when they came."""

    def __init__(self, *, fails_on: str | None = None) -> None:
        self.batches: list[tuple[float, list[str]]] = []
        self._fails_on = fails_on

    async def __call__(self, ids: Sequence[str]) -> Sequence[Skip | None]:
        if self._fails_on in ids:
            raise ConnectionLostError("gone")
        self.batches.append((asyncio.get_running_loop().time(), list(ids)))
        return [None] * len(ids)


async def test_a_rate_is_kept_from_the_first_batch_on() -> None:
    doer = Doer()
    ids = [str(n) for n in range(10)]
    tally = await in_batches(ids, doer, rate=Rate(per_second=40), advance=lambda _count: None)
    assert tally.done == ids
    times = [at for at, _ in doer.batches]
    assert [len(batch) for _, batch in doer.batches] == [4, 4, 2]
    assert times[1] - times[0] >= 0.099
    assert times[2] - times[0] >= 0.199


async def test_without_a_rate_batches_are_large() -> None:
    doer = Doer()
    moved: list[int] = []
    await in_batches([str(n) for n in range(250)], doer, rate=None, advance=moved.append)
    assert moved == [100, 100, 50]


async def test_an_error_keeps_what_was_done_before() -> None:
    doer = Doer(fails_on="150")
    ids = [str(n) for n in range(250)]
    tally = await in_batches(ids, doer, rate=None, advance=lambda _count: None)
    assert tally.done == ids[:100]
    assert str(tally.error) == "gone"
