"""What an amqp:// URL may say, and what is refused with a sentence."""

from __future__ import annotations

from datetime import timedelta

import pytest
from brokerq_rabbitmq.options import Address, read_options

from brokerq.errors import ConfigurationError
from brokerq.url import Url


def test_a_bare_url_means_the_defaults_of_rabbitmq() -> None:
    options = read_options(Url.parse("amqp://localhost"))
    assert options.addresses == (Address(host="localhost", port=5672),)
    assert (options.vhost, options.user, options.password) == ("/", "guest", "guest")
    assert options.tls is None
    assert options.heartbeat == timedelta(seconds=15)


def test_several_hosts_a_virtual_host_and_parameters() -> None:
    text = "amqp://me:p%40ss@one,two:5673,[::1]:5674/my%20app?heartbeat=20s&prefetch=50"
    options = read_options(Url.parse(text + "&publish_timeout=3s&consumer_timeout=2h"))
    assert [str(each) for each in options.addresses] == ["one:5672", "two:5673", "::1:5674"]
    assert (options.vhost, options.user, options.password) == ("my app", "me", "p@ss")
    assert options.prefetch == 50
    assert options.heartbeat == timedelta(seconds=20)
    assert options.publish_timeout == timedelta(seconds=3)
    assert options.consumer_timeout == timedelta(hours=2)


@pytest.mark.parametrize("path", ["", "/", "/%2F"])
def test_the_virtual_host_without_a_name_is_the_slash(path: str) -> None:
    assert read_options(Url.parse(f"amqp://host{path}")).vhost == "/"


def test_amqps_brings_tls_and_its_own_port() -> None:
    options = read_options(Url.parse("amqps://host"))
    assert options.tls is not None
    assert options.tls.check_hostname
    assert options.addresses[0].port == 5671


@pytest.mark.parametrize(
    ("text", "where", "user", "password"),
    [
        ("http://m:p%2540ss@rabbit:1234", "http://rabbit:1234", "m", "p@ss"),
        ("http://m@rabbit", "http://rabbit:15672", "m", ""),
        ("https://rabbit/api-of/", "https://rabbit:15671/api-of", "me", "secret"),
        ("http%3A%2F%2Frabbit%3A80", "http://rabbit:80", "me", "secret"),
        ("http://[::1]:80", "http://[::1]:80", "me", "secret"),
    ],
)
def test_the_management_api_is_asked_as_the_user_it_names_or_as_the_brokers(
    text: str, where: str, user: str, password: str
) -> None:
    url = Url.parse(f"amqp://me:secret@host?management={text}")
    found = read_options(url).management
    assert found is not None
    assert (str(found), found.user, found.password) == (where, user, password)
    assert found.is_secure is where.startswith("https")
    assert repr(password) not in repr(found) or not password


def test_without_it_no_management_api_is_asked() -> None:
    assert read_options(Url.parse("amqp://host")).management is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("amqp://", "names no host"),
        ("amqp://host,", "names no host"),
        ("amqp://host:port", "names no host"),
        ("amqp://host/a/b", "one name"),
        ("amqp://host?prefetch=0", "prefetch '0' is not a number from 1 to 65535"),
        ("amqp://host?prefetch=many", "prefetch 'many'"),
        ("amqp://host?heartbeat=0s", "heartbeat must not be zero"),
        ("amqp://host?heartbeat=1500ms", "whole seconds"),
        ("amqp://host?heartbeat=10", "is not a duration"),
        ("amqp://host?colour=red", "does not know the parameter 'colour'"),
        ("amqp://host?cafile=/x", "does not know the parameter 'cafile'"),
        ("amqp://host?management=rabbit:15672", "http://user:password@host"),
        ("amqp://host?management=ftp://rabbit", "http://user:password@host"),
        ("amqp://host?management=http://", "http://user:password@host"),
        ("amqp://host?management=http://rabbit:many", "http://user:password@host"),
        ("amqp://host?management=http://rabbit%3Fa=b", "http://user:password@host"),
        ("amqp://host?management=http://user:1/2@rabbit", "http://user:password@host"),
        ("amqp://host?queues=classic", "would break promises"),
        ("amqp://host?queues=stream", "'stream' is no kind"),
        ("amqps://host?cafile=/nowhere.pem", "cannot be used"),
        ("amqps://host?keyfile=/nowhere.pem", "name that, too"),
    ],
)
def test_what_is_wrong_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        read_options(Url.parse(text))


def test_quorum_queues_may_be_named() -> None:
    assert read_options(Url.parse("amqp://host?queues=quorum")).addresses[0].host == "host"
