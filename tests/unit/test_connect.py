"""From URLs to a broker and a store."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from brokerq.adapter import Backend
from brokerq.clock import Clock, SystemClock
from brokerq.connect import GROUP, Backends, check_app_name, open_backends
from brokerq.errors import (
    ConfigurationError,
    MissingExtraError,
    StorageError,
    UnknownSchemeError,
)
from brokerq.url import Url


@dataclass
class Made:
    """What the adapters were asked for; stands for the broker and the store too."""

    urls: list[Url] = field(default_factory=list[Url])
    prefixes: list[str] = field(default_factory=list[str])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Adapters in a module of their own, each returning objects that name their URL."""
    made = Made()
    module = ModuleType("made_adapters")

    def adapter(*, broker: bool, store: bool) -> Any:
        def factory(url: Url, *, prefix: str, clock: Clock) -> Backend:
            assert isinstance(clock, SystemClock)
            made.urls.append(url)
            made.prefixes.append(prefix)
            return Backend(
                broker=cast("Any", f"broker {url.raw}") if broker else None,
                store=cast("Any", f"store {url.raw}") if store else None,
            )

        return factory

    def lacks_client(url: Url, *, prefix: str, clock: Clock) -> Backend:
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    def broken(url: Url, *, prefix: str, clock: Clock) -> Backend:
        raise ImportError("cannot import name 'X' from 'brokerq.wire'", name="brokerq.wire")

    module.__dict__.update(
        both=adapter(broker=True, store=True),
        broker=adapter(broker=True, store=False),
        store=adapter(broker=False, store=True),
        lacks_client=lacks_client,
        broken=broken,
    )
    monkeypatch.setitem(sys.modules, "made_adapters", module)
    return made


def installed(**schemes: str) -> list[EntryPoint]:
    return [
        EntryPoint(name, value if ":" in value else f"made_adapters:{value}", GROUP)
        for name, value in schemes.items()
    ]


USUAL = installed(memory="both", sqlite="both", amqp="broker", postgresql="both", redis="store")


def connect(
    url: str | None,
    store_url: str | None = None,
    *,
    cwd: Path = Path("/srv"),
    prefix: str | None = None,
    adapters: list[EntryPoint] = USUAL,
) -> Backends:
    return open_backends(
        url,
        store_url,
        app="shop",
        clock=SystemClock(),
        cwd=cwd,
        prefix=prefix,
        adapters=adapters,
    )


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("url", "store_url", "broker", "store"),
    [
        ("memory://", None, "memory://", "memory://"),
        ("sqlite:////v/a.db", None, "sqlite:////v/a.db", "sqlite:////v/a.db"),
        ("sqlite:///a.db", None, "sqlite:////srv/a.db", "sqlite:////srv/a.db"),
        ("sqlite:///d/a%20b.db?x=1", None, *["sqlite:////srv/d/a%20b.db?x=1"] * 2),
        ("sqlite:///:memory:", None, "sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://h/d", None, "postgresql://h/d", "postgresql://h/d"),
        ("amqp://h", "postgresql://h/d", "amqp://h", "postgresql://h/d"),
        ("amqp://h", "sqlite:///a.db", "amqp://h", "sqlite:////srv/a.db"),
        ("amqp://h", "redis://h", "amqp://h", "redis://h"),
        ("amqp://h", "none://", "amqp://h", None),
        ("sqlite:///a.db", "none://", "sqlite:////srv/a.db", None),
        ("sqlite:///a.db", "sqlite:///b.db", "sqlite:////srv/a.db", "sqlite:////srv/b.db"),
    ],
)
def test_the_urls_choose(url: str, store_url: str | None, broker: str, store: str | None) -> None:
    backends = connect(url, store_url)
    assert cast("object", backends.broker) == f"broker {broker}"
    assert cast("object", backends.store) == (None if store is None else f"store {store}")
    assert backends.folder is None


def test_one_url_for_both_makes_one_backend(made: Made) -> None:
    connect("memory://", "memory://")
    connect("sqlite:///a.db", "sqlite:////srv/a.db")
    assert len(made.urls) == 2


def test_names_begin_with_the_app_unless_told_otherwise(made: Made) -> None:
    connect("memory://")
    connect("amqp://h", "memory://", prefix="old")
    assert made.prefixes == ["shop", "old", "old"]


@pytest.mark.usefixtures("made")
def test_without_a_url_there_is_a_file_in_a_folder_made_later(tmp_path: Path) -> None:
    backends = connect(None, cwd=tmp_path)
    assert str(tmp_path / ".brokerq" / "shop.db") in backends.description
    assert list(tmp_path.iterdir()) == []
    backends.make_folder()
    backends.make_folder()
    assert [path.name for path in (tmp_path / ".brokerq").iterdir()] == [".gitignore"]


@pytest.mark.usefixtures("made")
def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / ".brokerq").write_text("in the way", "utf-8")
    with pytest.raises(StorageError, match="set BROKERQ_URL"):
        connect(None, cwd=tmp_path).make_folder()


@pytest.mark.usefixtures("made")
def test_a_named_file_needs_no_folder(tmp_path: Path) -> None:
    connect("sqlite:///a/b.db", cwd=tmp_path).make_folder()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("url", "store_url", "description"),
    [
        ("sqlite:///a.db", None, "broker and store: sqlite:////srv/a.db"),
        (
            "amqp://u:hunter2@h/v",
            "postgresql://u:hunter2@h/d?password=hunter2",
            "broker: amqp://***@h/v; store: postgresql://***@h/d?password=***",
        ),
        (
            "amqp://u:hunter2@h",
            "none://",
            "broker: amqp://***@h; store: none: at least once, nothing is remembered",
        ),
    ],
)
def test_the_description_is_absolute_and_without_credentials(
    url: str, store_url: str | None, description: str
) -> None:
    assert connect(url, store_url).description == description


@pytest.mark.usefixtures("made")
def test_a_broker_without_records_needs_a_named_store() -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect("amqp://user:hunter2@host")
    first, *choices = str(caught.value).splitlines()
    assert "BROKERQ_STORE_URL" in first
    assert [line.split("://")[0].strip() for line in choices] == ["postgresql", "sqlite", "none"]
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("scheme", ["redis", "rediss", "none"])
def test_a_store_is_no_broker(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{scheme}:// is no broker"):
        connect(f"{scheme}://")


@pytest.mark.usefixtures("made")
def test_what_its_adapter_says_is_only_a_store_is_no_broker() -> None:
    with pytest.raises(ConfigurationError, match="dynamodb:// is no broker"):
        connect("dynamodb://eu", adapters=installed(dynamodb="store"))


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("url", ["memory://", "amqp://h"])
def test_a_broker_is_no_store(url: str) -> None:
    with pytest.raises(ConfigurationError, match="BROKERQ_STORE_URL: amqp:// is a broker"):
        connect(url, "amqp://h")


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("sqlit:///a.db", "sqlite"),
        ("sqlite3:///a.db", "sqlite"),
        ("ampq://h", "amqp"),
        ("rabbitmq://h", "amqp"),
        ("postgres://h/d", "postgresql"),
        ("memry://", "memory"),
    ],
)
def test_an_unknown_scheme_is_answered_with_the_nearest_and_the_installed(
    url: str, near: str
) -> None:
    with pytest.raises(UnknownSchemeError) as caught:
        connect(url)
    assert f"did you mean {near}://?" in str(caught.value)
    assert "Installed: amqp://, memory://, postgresql://, redis://, sqlite://" in str(caught.value)


@pytest.mark.usefixtures("made")
def test_an_unknown_scheme_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UnknownSchemeError, match="no adapter knows qwxz://"):
        connect("qwxz://u:hunter2@h")
    with pytest.raises(UnknownSchemeError, match="Installed: nothing"):
        connect("qwxz://h", adapters=[])


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "sqs", "postgresql"])
def test_a_broker_that_this_version_does_not_know_yet_is_refused(scheme: str) -> None:
    with pytest.raises(UnknownSchemeError) as caught:
        connect(f"{scheme}://u:hunter2@h", adapters=installed(memory="broker"))
    sentence = f"this version of brokerq has no adapter for {scheme}://. Installed: memory://"
    assert str(caught.value) == sentence


def test_a_store_that_this_version_does_not_know_yet_is_refused(made: Made) -> None:
    with pytest.raises(UnknownSchemeError, match="no adapter for redis://"):
        connect("amqp://h", "redis://h", adapters=installed(amqp="broker"))
    assert len(made.urls) == 1


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("value", ["lacks_client", "no_such_client_library:adapter"])
def test_a_missing_client_library_names_its_extra(value: str) -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "brokerq\[sqs\]"'):
        connect("sqs://eu", adapters=installed(sqs=value))


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("scheme", ["sqs", "other"])
def test_a_broken_adapter_is_not_taken_for_a_missing_extra(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be imported: ") as caught:
        connect(f"{scheme}://eu", adapters=installed(**{scheme: "broken"}))
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.parametrize("name", ["shop", "s", "Shop-2_a.b", "2", "x" * 40])
def test_an_app_name_is_taken(name: str) -> None:
    assert check_app_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a b", "a/b", "ä", "x" * 41, "a\n"])
def test_an_app_name_that_cannot_be_in_a_queue_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name for an app"):
        check_app_name(name)
