"""The command line: the versions of brokerq's own tables."""

from __future__ import annotations

import pytest

from brokerq.cli import run


@pytest.mark.parametrize("command", ["status", "up", "sql"])
def test_a_broker_without_tables_of_its_own_says_so(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["migrate", command, "memory://"]) == 2
    assert "there are no tables to bring up to date" in capsys.readouterr().err


def test_without_a_url_an_app_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROKERQ_APP", raising=False)
    assert run(["migrate", "status"]) == 2
    assert "say which app" in capsys.readouterr().err


def test_the_script_needs_no_connection(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "sql", "postgresql://127.0.0.1:1/nothing?schema=jobs"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("BEGIN;\nSELECT pg_advisory_xact_lock(")
    assert 'CREATE SCHEMA IF NOT EXISTS "jobs";' in script
    assert 'CREATE TABLE "jobs".messages' in script
    assert script.endswith("COMMIT;\n")
