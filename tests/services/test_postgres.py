"""Servers of one's own come, crash, come back with what they had, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.services import postgres, postgres_server
from tests.services.ports import is_open
from tests.services.postgres_server import Pooler, own_server

pytestmark = pytest.mark.timeout(240)  # a server may take long to start on a busy machine


def test_a_server_survives_a_kill_and_leaves_nothing() -> None:
    before = _shared_memory()
    with own_server({"work_mem": "5MB"}) as server:
        server.run("CREATE TABLE kept AS SELECT 17 AS n")
        with psycopg.connect(server.url) as connection:
            server.kill()
            assert not is_open(server.port)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        server.start()
        assert server.run("SELECT n, current_setting('work_mem') FROM kept") == [(17, "5MB")]
        server.restart()
        assert server.run("SELECT n FROM kept") == [(17,)]
        server.kill()
    assert not server.folder.exists()
    assert not is_open(server.port)
    assert _shared_memory() <= before


def _shared_memory() -> set[str]:
    """Return the segments that nobody uses any more."""
    lines = Path("/proc/sysvipc/shm").read_text("ascii").splitlines()[1:]
    return {line.split()[1] for line in lines if line.split()[6] == "0"}


def test_a_pooler_gives_each_transaction_one_of_few_connections() -> None:
    with own_server() as server, Pooler(server.port, size=1) as pooler:
        with (
            psycopg.connect(pooler.url, autocommit=True) as one,
            psycopg.connect(pooler.url, autocommit=True) as other,
        ):
            pids = [each.execute("SELECT pg_backend_pid()").fetchone() for each in (one, other)]
        assert pids[0] == pids[1]
        pooler.kill()
        assert not is_open(pooler.port)
    assert not pooler.folder.exists()


def test_a_server_that_cannot_start_says_why() -> None:
    server = own_server({"max_connections": "none"})
    with pytest.raises(RuntimeError, match="max_connections"):
        server.start()
    assert not server.folder.exists()


def test_a_system_without_postgresql_is_a_missing_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "_INSTALLED", tmp_path)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="service missing: PostgreSQL"):
        own_server()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="service missing: PostgreSQL"):
        own_server()


def test_where_nobody_listens_a_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(postgres.STANDING, raising=False)
    monkeypatch.setattr(postgres, "_USUAL", ("postgresql://postgres@127.0.0.1:1/postgres",))
    with postgres.own_schema() as url:
        with psycopg.connect(postgres.standing_url()) as connection:
            assert connection.info.port > 1
        assert "schema=" in url


def test_a_named_server_is_believed_only_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(postgres.STANDING, "postgresql://postgres@127.0.0.1:1/postgres")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nothing answers"):
        postgres.standing_url()
