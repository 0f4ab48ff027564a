"""The URL that chooses a broker or store."""

import pytest

from brokerq.errors import ConfigurationError
from brokerq.url import Url


@pytest.mark.parametrize(
    ("text", "scheme", "host", "path", "query"),
    [
        ("memory://", "memory", "", "", {}),
        ("memory://one", "memory", "one", "", {}),
        ("sqlite:///jobs.db", "sqlite", "", "/jobs.db", {}),
        ("sqlite:////var/my%20jobs.db", "sqlite", "", "//var/my jobs.db", {}),
        ("SQLITE:///a?sync=full", "sqlite", "", "/a", {"sync": "full"}),
        ("amqp://u:p@h1:5672,h2/v%2Fhost", "amqp", "h1:5672,h2", "/v/host", {}),
        ("amqp://u:p%40x@host", "amqp", "host", "", {}),
        ("sqs://eu-west-1?endpoint=http%3A%2F%2Fx&a=", "sqs", "eu-west-1", "", None),
    ],
)
def test_a_url_is_taken_apart(
    text: str, scheme: str, host: str, path: str, query: dict[str, str] | None
) -> None:
    url = Url.parse(text)
    assert (url.scheme, url.host, url.path) == (scheme, host, path)
    assert url.query == ({"endpoint": "http://x", "a": ""} if query is None else query)
    assert url.raw == text


@pytest.mark.parametrize(
    "text",
    ["", "jobs.db", "sqlite", "sqlite:jobs.db", "://host", "amqp://[::1", "memory://?a=1&a=2"],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Url.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "amqp://user:hunter2@host/vhost",
        "amqp://:hunter2@host",
        "postgresql://u:a%2Fhunter2@h1,h2/db?sslmode=require",
        "postgresql://h/db?password=hunter2",
        "redis://h?TOKEN=hunter2",
        "postgresql://h/db?sslpassword=hunter2",
        "sqs://eu?aws_secret_access_key=hunter2",
        "sqs://eu?secret_key=hunter2&access_key=hunter2",
        "amqp://h?management=http://user:hunter2@h:15672",
        "amqp://h?management=http://user:a/hunter2@h",
        "amqp://h?management=http%3A%2F%2Fuser%3Aa%252Fhunter2%40h",
    ],
)
def test_no_secret_is_printed(text: str) -> None:
    url = Url.parse(text)
    assert "hunter2" not in str(url)
    assert "hunter2" not in repr(url)
    assert "***" in str(url)


@pytest.mark.parametrize(
    "text",
    [
        "amqp://user:hunter2#x@host",
        "amqp://user:hunter2/x@host",
        "amqp://user:hunter2?x@host",
        "amqp://user:hunter2[x@host",
        "amqp://user:hunter2\u2100x@host",
        "redis://host?hunter2",
    ],
)
def test_a_password_that_is_not_quoted_is_refused_unseen(text: str) -> None:
    with pytest.raises(ConfigurationError, match="%2F") as caught:
        Url.parse(text)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "text", ["memory://", "sqlite:////var/jobs.db", "amqp://host:5672/v", "sqlite:///a?sync=full"]
)
def test_what_has_no_secret_is_printed_as_it_is(text: str) -> None:
    assert str(Url.parse(text)) == text


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    url = Url.parse("sqlite:///a?sink=full")
    url.refuse_unknown({"sink"})
    with pytest.raises(ConfigurationError, match=r"'sink' \(known: busy_timeout, sync\)"):
        url.refuse_unknown({"sync", "busy_timeout"})
    with pytest.raises(ConfigurationError, match=r"\(known: none\)"):
        url.refuse_unknown(())
