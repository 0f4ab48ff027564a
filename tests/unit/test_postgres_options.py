"""What a postgresql:// URL says."""

from datetime import timedelta

import pytest
from brokerq_postgres.options import Options, read_options
from psycopg.conninfo import conninfo_to_dict

from brokerq.errors import ConfigurationError
from brokerq.url import Url


def read(text: str) -> Options:
    return read_options(Url.parse(text))


def test_without_parameters_the_defaults_hold() -> None:
    options = read("postgresql://shop:secret@db.example:5433/jobs")
    words = conninfo_to_dict(options.conninfo)
    assert (words["host"], words["port"], words["dbname"]) == ("db.example", "5433", "jobs")
    assert (words["user"], words["password"]) == ("shop", "secret")
    assert (words["application_name"], words["client_encoding"]) == ("brokerq", "utf8")
    assert (options.schema, options.pool_size, options.poll) == (
        "brokerq",
        10,
        timedelta(seconds=1),
    )
    assert options.direct == options.conninfo
    assert not options.pooled


def test_the_session_is_bounded() -> None:
    options = read("postgresql:///jobs?statement_timeout=5s&lock_timeout=2s&idle_timeout=3s")
    told = str(conninfo_to_dict(options.conninfo)["options"])
    assert "-c statement_timeout=5000" in told
    assert "-c lock_timeout=2000" in told
    assert "-c idle_in_transaction_session_timeout=3000" in told


def test_libpq_s_own_parameters_are_passed_on() -> None:
    url = "postgresql://h/jobs?sslmode=verify-full&application_name=shop&options=-c%20work_mem=8MB"
    words = conninfo_to_dict(read(url).conninfo)
    assert (words["sslmode"], words["application_name"]) == ("verify-full", "shop")
    assert str(words["options"]).startswith("-c work_mem=8MB -c statement_timeout=")


def test_several_hosts_are_passed_on() -> None:
    words = conninfo_to_dict(
        read("postgresql://a,b:5433/jobs?target_session_attrs=read-write").conninfo
    )
    assert (words["host"], words["port"]) == ("a,b", ",5433")


def test_behind_a_pooler_no_settings_of_the_session_are_sent() -> None:
    options = read("postgresql://pooler:6432/jobs?pooler=transaction")
    assert "options" not in conninfo_to_dict(options.conninfo)
    assert options.direct is None
    assert options.poll == timedelta(milliseconds=250)


def test_behind_a_pooler_listening_can_go_past_it() -> None:
    url = "postgresql://u@pooler:6432/jobs?pooler=transaction&direct=db:5433"
    options = read(url)
    words = conninfo_to_dict(str(options.direct))
    assert (words["host"], words["port"], words["user"]) == ("db", "5433", "u")
    assert options.poll == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://h/d?schmea=x", "schmea"),
        ("postgresql://h/d?schema=a.b", "a.b"),
        ("postgresql://h/d?schema=", "schema"),
        ("postgresql://h/d?pool_size=0", "pool_size"),
        ("postgresql://h/d?pool_size=many", "pool_size"),
        ("postgresql://h/d?poll=0s", "poll"),
        ("postgresql://h/d?statement_timeout=soon", "statement_timeout"),
        ("postgresql://h/d?pooler=session", "session"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        read(text)


def test_an_unreadable_url_does_not_show_its_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        read("postgresql://u:hunter2%zz@h/d")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_options_do_not_show_the_password() -> None:
    assert "hunter2" not in repr(read("postgresql://u:hunter2@h/d?password=hunter2"))
