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
        ("amqps://host?cafile=/nowhere.pem", "cannot be used"),
        ("amqps://host?keyfile=/nowhere.pem", "name that, too"),
    ],
)
def test_what_is_wrong_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        read_options(Url.parse(text))
