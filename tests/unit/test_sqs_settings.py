"""What an `sqs://` URL may say."""

from __future__ import annotations

from datetime import timedelta

import pytest
from brokerq_sqs.settings import Settings, read_settings

from brokerq.errors import ConfigurationError
from brokerq.url import Url


def read(text: str) -> Settings:
    return read_settings(Url.parse(text), prefix="shop")


def test_a_region_is_enough() -> None:
    assert read("sqs://eu-central-1") == Settings(region="eu-central-1", prefix="shop")


def test_every_option_is_read() -> None:
    url = "sqs://us-gov-west-1?prefix=mine&endpoint=http://[::1]:4566&profile=p&kms=alias/k&wait=5s"
    assert read(url) == Settings(
        region="us-gov-west-1",
        prefix="mine",
        endpoint="http://[::1]:4566",
        profile="p",
        kms="alias/k",
        wait=timedelta(seconds=5),
    )


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("sqs://", "names no region"),
        ("sqs://?endpoint=http://127.0.0.1:1", "names no region"),
        ("sqs://localhost:4566", "names no region"),
        ("sqs://us-east-1/queue", "names no region"),
        ("sqs://AKIA:secret@us-east-1", "never from the URL"),
        ("sqs://us-east-1?visibility=3", "visibility"),
        ("sqs://us-east-1?prefix=", "prefix is empty"),
        ("sqs://us-east-1?wait=21s", "0s to 20s"),
        ("sqs://us-east-1?wait=500ms", "whole seconds"),
        ("sqs://us-east-1?endpoint=127.0.0.1:4566", "endpoint must be a URL"),
        ("sqs://us-east-1?endpoint=http://a:b@host", "without credentials"),
    ],
)
def test_what_makes_no_sense_is_refused(url: str, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as refused:
        read(url)
    assert "secret" not in str(refused.value)
