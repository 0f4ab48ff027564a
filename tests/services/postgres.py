"""The PostgreSQL server that tests share, and schemas in it for some of them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from brokerq_postgres.options import read_options
from psycopg import sql

from brokerq.url import Url
from tests.services.availability import require_service
from tests.services.postgres_server import own_server

STANDING = "BROKERQ_TEST_POSTGRES_URL"
_USUAL = ("postgresql://root@127.0.0.1:5432/test", "postgresql://postgres@127.0.0.1:5432/postgres")


def standing_url() -> str:
    """Return the URL of the server that tests share.

    Where none runs, one is started from the system's package, for this process. Skips the test, or
    fails it, where there is none.
    """
    named = os.environ.get(STANDING)
    url = _find((named,) if named else _USUAL)
    if url is None and named:
        require_service("PostgreSQL", f"nothing answers at {named}; set {STANDING}")
    return url or _own_url()


@cache
def _own_url() -> str:
    server = own_server()
    server.start()
    atexit.register(server.close)
    return server.url


@cache
def _find(urls: tuple[str, ...]) -> str | None:
    for url in urls:
        try:
            psycopg.connect(_conninfo(url), connect_timeout=3).close()
        except psycopg.Error:
            continue
        return url
    return None


def _conninfo(url: str) -> str:
    """Return what libpq understands of the URL."""
    return read_options(Url.parse(url)).conninfo


def with_parameters(url: str, **parameters: str) -> str:
    """Return the URL with more parameters."""
    parts = urlsplit(url)
    query = "&".join(text for text in (parts.query, urlencode(parameters)) if text)
    return urlunsplit(parts._replace(query=query))


@contextmanager
def own_schema(server: str | None = None) -> Generator[str]:
    """Yield a URL with a schema that nobody else uses, and remove it in the end."""
    url = server or standing_url()
    name = f"brokerq_test_{uuid4().hex[:12]}"
    try:
        yield with_parameters(url, schema=name)
    finally:
        with psycopg.connect(_conninfo(url), autocommit=True) as connection:
            statement = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name))
            connection.execute(statement)
