"""Queries that are narrowed by what is asked for."""

import pytest
from brokerq_postgres.conditions import Conditions as PostgresConditions
from brokerq_sqlite.conditions import Conditions as SqliteConditions

START = "SELECT id FROM jobs WHERE app = 1"


def test_conditions_and_limit_follow_each_other_in_order() -> None:
    conditions = SqliteConditions(START, {"app": 1})
    conditions.equal("job", "charge")
    conditions.also("ended_at IS NULL")
    conditions.among("state", ["queued", "dead"])
    conditions.compare("id", "<", "x")
    statement, values = conditions.query("id DESC", 10)
    assert statement.removeprefix(START) == (
        " AND job = :v1 AND ended_at IS NULL AND state IN (SELECT value FROM json_each(:v2))"
        " AND id < :v3 ORDER BY id DESC LIMIT :limit"
    )
    states = '["dead","queued"]'
    assert values == {"app": 1, "v1": "charge", "v2": states, "v3": "x", "limit": 10}


def test_postgresql_s_parameters_are_psycopg_s() -> None:
    conditions = PostgresConditions(START, {"app": 1})
    conditions.equal("job", "a\x00b")
    conditions.among("state", ["queued", "dead"])
    conditions.add("first_at < {}", 7)
    statement, values = conditions.query("id", 10)
    assert statement.removeprefix(START) == (
        " AND job = %(v1)s AND state = ANY (%(v2)s::text[]) AND first_at < %(v3)s"
        " ORDER BY id LIMIT %(limit)s"
    )
    states = '{"dead","queued"}'
    assert values == {"app": 1, "v1": "a\x1a0000b", "v2": states, "v3": 7, "limit": 10}


@pytest.mark.parametrize("conditions", [SqliteConditions(START, {}), PostgresConditions(START, {})])
def test_what_is_not_asked_for_is_no_condition(
    conditions: SqliteConditions | PostgresConditions,
) -> None:
    conditions.add("first_at < {}", None)
    conditions.equal("job", None)
    conditions.among("state", None)
    statement, values = conditions.query("id", 10)
    assert [statement.count("AND"), values] == [0, {"limit": 10}]


@pytest.mark.parametrize("conditions", [SqliteConditions(START, {}), PostgresConditions(START, {})])
def test_one_of_none_is_a_condition(conditions: SqliteConditions | PostgresConditions) -> None:
    conditions.among("state", [])
    assert "state" in conditions.query("id", 10)[0]
