"""Settings from the environment.

Import it only where settings are read: pydantic-settings takes longer to import than brokerq.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from brokerq import defaults
from brokerq.duration import ZERO, to_timedelta
from brokerq.errors import ConfigurationError

PREFIX = "BROKERQ_"


def _read_timeout(value: object) -> timedelta | None:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    try:
        timeout = to_timedelta(value if isinstance(value, timedelta) else str(value))
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from None
    if timeout == ZERO:
        raise ValueError("zero is no timeout")
    return timeout


def _read_queue(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", value):
        raise ValueError("not a queue name")
    return value


def _read_word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _read_reference(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[\w.]+:[\w.]+", value):
        raise ValueError("not MODULE:NAME")
    return value


class Settings(BaseSettings):
    """What the environment says, or the default; an empty variable counts as unset.

    Attributes:
        url: The broker; None: a SQLite file. May hold a password and is left out of the repr.
        store_url: Where records are kept; None: with the broker, if it can. As secret as `url`.
        app: Where the app is found, as MODULE:NAME.
        default_queue: For jobs that name none.
        max_attempts: For jobs without a retry policy of their own.
        timeout: For jobs without one of their own; None (the text "none"): no limit.
        concurrency: How many jobs one worker process runs at a time.
        topology: `declare` creates queues, `verify` checks them, `assume` does neither.
        mode: `queue`, or `inline`: a publish runs the job at once, in the caller's process.
        log_level: What the command line shows.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    url: str | None = Field(default=None, repr=False)
    store_url: str | None = Field(default=None, repr=False)
    app: Annotated[str | None, BeforeValidator(_read_reference)] = None
    default_queue: Annotated[str, BeforeValidator(_read_queue)] = defaults.QUEUE
    max_attempts: int = Field(default=defaults.MAX_ATTEMPTS, ge=1)
    timeout: Annotated[timedelta | None, BeforeValidator(_read_timeout)] = defaults.TIMEOUT
    concurrency: int = Field(default=defaults.CONCURRENCY, ge=1)
    topology: Annotated[Literal["declare", "verify", "assume"], BeforeValidator(_read_word)] = (
        "declare"
    )
    mode: Annotated[Literal["queue", "inline"], BeforeValidator(_read_word)] = "queue"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(_read_word)
    ] = "info"


_REMEDIES = {
    "url": "must be a URL such as sqlite:///jobs.db",
    "store_url": "must be a URL such as sqlite:///jobs.db, or none://",
    "app": "must say where the app is, as MODULE:NAME, such as shop:bq",
    "default_queue": "must be a queue name: letters, digits, -, _ and ., at most 60",
    "max_attempts": "must be a whole number of at least 1, such as 3",
    "timeout": 'must be a duration such as "30s" or "5m", or "none" for no limit',
    "concurrency": "must be a whole number of at least 1, such as 10",
    "topology": "must be declare, verify or assume",
    "mode": "must be queue or inline",
    "log_level": "must be debug, info, warning or error",
}


def load_settings() -> Settings:
    """Read the environment.

    Raises `ConfigurationError` with one sentence for each malformed variable; values are not
    shown, since a secret may have ended up in the wrong variable.
    """
    try:
        return Settings()
    except ValidationError as exc:
        names = dict.fromkeys(
            str(error["loc"][0]) for error in exc.errors(include_input=False, include_context=False)
        )
    sentences = [f"{PREFIX}{name.upper()} {_REMEDIES[name]}" for name in names]
    raise ConfigurationError("; ".join(sentences))


def unknown_variables(environ: Mapping[str, str], *, known: Collection[str] = ()) -> list[str]:
    """Return a sentence for each `BROKERQ_` variable that means nothing, the nearest name in it.

    Args:
        environ: The environment.
        known: Whole names of further variables that do mean something.
    """
    names = {PREFIX + field.upper() for field in Settings.model_fields} | set(known)
    sentences: list[str] = []
    for variable in sorted(environ):
        name = variable.upper()
        if not name.startswith(PREFIX) or name in names:
            continue
        # Without the prefix, which is like itself and would make every name a near one.
        suffixes = sorted(known_name.removeprefix(PREFIX) for known_name in names)
        near = get_close_matches(name.removeprefix(PREFIX), suffixes, n=1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known: {', '.join(sorted(names))}"
        sentences.append(f"{variable} is not a setting and was ignored: {hint}")
    return sentences
