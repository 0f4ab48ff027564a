"""Settings from the environment."""

import os
from datetime import timedelta

import pytest
from pydantic import ValidationError

from brokerq.errors import ConfigurationError
from brokerq.settings import Settings, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("BROKERQ_")]:
        monkeypatch.delenv(name)


def test_without_variables_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings.url is None
    assert settings.store_url is None
    assert settings.app is None
    assert settings.default_queue == "default"
    assert settings.max_attempts == 3
    assert settings.timeout == timedelta(minutes=5)
    assert settings.concurrency == 10
    assert settings.topology == "declare"
    assert settings.mode == "queue"
    assert settings.log_level == "info"


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("URL", "sqlite:///jobs.db", "sqlite:///jobs.db"),
        ("STORE_URL", "none://", "none://"),
        ("APP", "shop.jobs:bq", "shop.jobs:bq"),
        ("DEFAULT_QUEUE", "e-mails.2", "e-mails.2"),
        ("MAX_ATTEMPTS", "7", 7),
        ("TIMEOUT", "1h30m", timedelta(minutes=90)),
        ("TIMEOUT", "None", None),
        ("CONCURRENCY", "100", 100),
        ("TOPOLOGY", "Verify", "verify"),
        ("MODE", "inline", "inline"),
        ("LOG_LEVEL", "DEBUG", "debug"),
        ("TIMEOUT", "", timedelta(minutes=5)),
        ("URL", "", None),
    ],
)
def test_a_variable_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"BROKERQ_{variable}", text)
    assert getattr(load_settings(), variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text", "remedy"),
    [
        ("CONCURRENCY", "many", "whole number of at least 1"),
        ("CONCURRENCY", "0", "whole number of at least 1"),
        ("MAX_ATTEMPTS", "2.5", "whole number of at least 1"),
        ("TIMEOUT", "20", '"30s" or "5m", or "none"'),
        ("TIMEOUT", "0s", '"30s" or "5m", or "none"'),
        ("TIMEOUT", "-1s", '"30s" or "5m", or "none"'),
        ("TOPOLOGY", "create", "declare, verify or assume"),
        ("MODE", "sync", "queue or inline"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("APP", "shop", "MODULE:NAME"),
        ("DEFAULT_QUEUE", "my queue", "letters, digits"),
    ],
)
def test_a_malformed_variable_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, remedy: str
) -> None:
    monkeypatch.setenv(f"BROKERQ_{variable}", text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"BROKERQ_{variable} must ")
    assert remedy in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_every_malformed_variable_is_named_and_no_value_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROKERQ_TIMEOUT", "amqp://user:hunter2@host")
    monkeypatch.setenv("BROKERQ_CONCURRENCY", "hunter2")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "BROKERQ_TIMEOUT" in str(caught.value)
    assert "BROKERQ_CONCURRENCY" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


def test_urls_are_not_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERQ_URL", "amqp://user:hunter2@host")
    monkeypatch.setenv("BROKERQ_STORE_URL", "postgresql://user:hunter2@host")
    assert "hunter2" not in repr(load_settings())


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.concurrency = 3


def test_an_unknown_variable_is_named_with_the_nearest_known_one() -> None:
    environ = {"BROKERQ_CONCURENCY": "3", "BROKERQ_URL": "x", "PATH": "x", "brokerq_mode": "x"}
    assert unknown_variables(environ) == [
        "BROKERQ_CONCURENCY is not a setting and was ignored: did you mean BROKERQ_CONCURRENCY?"
    ]


def test_an_unknown_variable_like_no_other_is_answered_with_the_list() -> None:
    (sentence,) = unknown_variables({"BROKERQ_42": "x"})
    assert all(f"BROKERQ_{name.upper()}" in sentence for name in Settings.model_fields)
    assert unknown_variables({"BROKERQ_42": "x"}, known={"BROKERQ_42"}) == []
