"""The statements and the schema, as files."""

import re
from importlib.resources import files

import pytest
from brokerq_postgres import migrations
from brokerq_postgres.queries import Queries, load

SOURCES = [entry for entry in files("brokerq_postgres").iterdir() if entry.name.endswith(".py")]
STATEMENTS = sorted(
    entry.name.removesuffix(".sql")
    for entry in files("brokerq_postgres.queries").iterdir()
    if entry.name.endswith(".sql")
)
WORDS = {word for entry in SOURCES for word in re.findall(r'"(\w+)"', entry.read_text("utf-8"))}


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_used(name: str) -> None:
    assert name in WORDS


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_table_is_named_with_its_schema(name: str) -> None:
    text = re.sub(r"--.*|epoch FROM", "", load(name))
    tables = "messages|jobs|keys|payloads|letters|pauses|outbox|apps|queues|lanes"
    into = rf"\b(?:FROM|JOIN|INTO|UPDATE|USING)\s+(?:{tables})\b"
    assert re.findall(into, text) == []


def test_the_schema_s_name_is_quoted() -> None:
    assert Queries('odd"name')["find_app"].startswith(b'SELECT id FROM "odd""name".apps')


def test_versions_are_numbered_without_a_gap() -> None:
    found = migrations.migrations()
    assert [each.version for each in found] == list(range(1, len(found) + 1))


def test_the_script_has_every_version_and_names_the_schema() -> None:
    script = migrations.script("shop")
    assert script.startswith("BEGIN;")
    assert script.endswith("COMMIT;\n")
    assert "{schema}" not in script
    for each in migrations.migrations():
        assert f"-- version {each.version}: {each.name}" in script
