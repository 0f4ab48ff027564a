"""Who listens to what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest

from brokerq.errors import ConfigurationError
from brokerq.hooks import Event, HookName, Hooks

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def event(name: HookName) -> Event:
    return Event(name=name, at=NOW, job_id="j-1")


async def test_listeners_are_called_in_turn_then_the_events_own() -> None:
    hooks, heard = Hooks(), list[str]()

    async def second(_event: Event) -> None:
        heard.append("second")

    hooks.add("dead", lambda _event: heard.append("first"))
    hooks.add("dead", second)
    hooks.add("succeeded", lambda _event: heard.append("other"))
    await hooks.fire(
        [(event("dead"), [lambda _event: heard.append("own")]), (event("succeeded"), ())]
    )
    assert heard == ["first", "second", "own", "other"]


def test_nobody_listens_until_somebody_does() -> None:
    hooks = Hooks()
    assert not hooks.wants("dead")
    hooks.add("dead", lambda _event: None)
    assert hooks.wants("dead")
    assert not hooks.wants("failed")


async def test_one_that_raises_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks, heard = Hooks(), list[str]()

    async def broken(_event: Event) -> None:
        raise RuntimeError("listener")

    hooks.add("failed", broken)
    hooks.add("failed", lambda _event: heard.append("fine"))
    await hooks.fire([(event("failed"), ())])
    assert heard == ["fine"]
    assert "the hook for 'failed' failed on job j-1" in caplog.text


def test_a_name_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no hook 'finished': use one of published, "):
        Hooks().add(cast("HookName", "finished"), lambda _event: None)
