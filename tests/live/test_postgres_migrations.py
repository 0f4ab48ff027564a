"""`brokerq migrate` on PostgreSQL, and what opening does with a schema that is not up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from brokerq_postgres.migrations import migrations
from brokerq_postgres.options import read_options
from psycopg import sql

from brokerq import BrokerQ, Reject
from brokerq.cli import run
from brokerq.errors import StorageError
from brokerq.url import Url
from tests.docs import ROOT, blocks
from tests.services.postgres import own_schema, standing_url, with_parameters

NEWEST = migrations()[-1].version


@pytest.fixture
def url() -> Iterator[str]:
    with own_schema() as url:
        yield url


def test_what_is_pending_is_told_applied_and_then_there(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["migrate", "status", url]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [str(Url.parse(url)), "  0001 initial  pending"]

    assert run(["migrate", "up", url]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  0001 initial  applied"
    assert run(["migrate", "status", url]) == 0
    assert "pending" not in capsys.readouterr().out
    assert run(["migrate", "up", url]) == 0
    assert "nothing was missing" in capsys.readouterr().out


def test_programs_can_read_it(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "status", "--json", url]) == 1
    [before] = json.loads(capsys.readouterr().out)["places"]
    assert (before["place"], before["applied"]) == (str(Url.parse(url)), 0)
    assert before["versions"][0] == {"number": 1, "name": "initial"}
    assert run(["migrate", "up", "--json", url]) == 0
    [after] = json.loads(capsys.readouterr().out)["places"]
    assert after["applied"] == before["versions"]


async def test_the_script_can_be_run_by_hand(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "sql", url]) == 0
    script = capsys.readouterr().out
    with psycopg.connect(standing_url(), autocommit=True) as connection:
        connection.execute(script.encode())
    async with BrokerQ("shop", url=url) as bq:
        await bq.open()
    assert run(["migrate", "sql", f"--since={NEWEST}", url]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"version {NEWEST} is the newest: nothing to run\n")


def test_many_at_once_apply_each_version_once(url: str) -> None:
    command = [sys.executable, "-m", "brokerq", "migrate", "up", "--json", url]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [json.loads(process.communicate(timeout=50)[0])["places"][0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    applied = [version["number"] for place in told for version in place["applied"]]
    assert applied == list(range(1, NEWEST + 1))


@pytest.mark.parametrize("topology", ["verify", "assume"])
async def test_who_must_not_change_it_refuses_an_old_schema(
    url: str, topology: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKERQ_TOPOLOGY", topology)
    for _ in range(2):
        with pytest.raises(StorageError, match="`brokerq migrate up`"):
            await BrokerQ("shop", url=url).open()
    monkeypatch.setenv("BROKERQ_TOPOLOGY", "declare")
    async with BrokerQ("shop", url=url) as bq:
        await bq.open()
    monkeypatch.setenv("BROKERQ_TOPOLOGY", topology)
    async with BrokerQ("shop", url="memory://", store_url=url) as bq:
        await bq.open()


@pytest.fixture
def role() -> Iterator[str]:
    """A role without any rights of its own."""
    name = f"brokerq_test_{uuid4().hex[:12]}"
    role = sql.Identifier(name)
    with psycopg.connect(standing_url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        yield name
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


async def test_the_rights_that_the_page_names_are_enough_to_work(url: str, role: str) -> None:
    theirs = with_parameters(url, options=f"-crole={role}")
    with pytest.raises(StorageError, match="rights that are needed"):
        await BrokerQ("shop", url=theirs).open()
    async with BrokerQ("shop", url=url) as owner:
        await owner.open()
    page = blocks(ROOT / "docs" / "postgresql.md")
    [grants] = [block.code for block in page if "GRANT" in block.code]
    schema = read_options(Url.parse(url)).schema
    with psycopg.connect(standing_url()) as connection:
        named = grants.replace("SCHEMA brokerq", f"SCHEMA {schema}").replace(
            "TO shop", f"TO {role}"
        )
        connection.execute(named.encode())
    async with BrokerQ("shop", url=theirs) as bq:

        @bq.job(idempotency_key="n")
        async def work(n: int) -> int:
            if n == 0:
                raise Reject("no")
            return n

        handles = [await work.publish(n) for n in range(3)]
        with psycopg.connect(standing_url()) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            await work.options(connection=connection).publish(3)
        report = await bq.run_worker(burst=True)
        assert report.outcomes == {"succeeded": 3, "dead": 1}
        assert await handles[1].result() == 1


def test_a_schema_that_is_too_new_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["migrate", "up", url])
    schema = read_options(Url.parse(url)).schema
    with psycopg.connect(standing_url()) as connection:
        change = sql.SQL("UPDATE {}.about SET version = 99, needs = '9.9'")
        connection.execute(change.format(sql.Identifier(schema)))
    for command in ("status", "up"):
        assert run(["migrate", command, url]) == 5
        assert "needs brokerq 9.9 or newer" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "status", "postgresql://nobody@127.0.0.1:1/nothing"]) == 5
    assert "cannot be reached" in capsys.readouterr().err
