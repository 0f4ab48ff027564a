"""Finds the app: `MODULE:BQ`, from the current folder."""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from brokerq.errors import ConfigurationError

if TYPE_CHECKING:
    from brokerq.app import BrokerQ

Command = TypeVar("Command", bound=Callable[..., Any])
TRACEBACK_LINES = 12

app_option = click.option(
    "-A",
    "--app",
    "reference",
    envvar="BROKERQ_APP",
    show_envvar=True,
    metavar="MODULE:BQ",
    help="The app, found from the current folder.",
)


def with_app(reference: str | None, do: Callable[[BrokerQ], Coroutine[Any, Any, int]]) -> int:
    """Load the app, run `do` with it, and close it again; return what `do` returns."""
    from brokerq.cli.logs import configure_logs

    bq = load_app(reference)
    configure_logs(log_format="human", level="warning")

    async def opened() -> int:
        try:
            return await do(bq)
        finally:
            await bq.close()

    return asyncio.run(opened())


def load_app(reference: str | None) -> BrokerQ:
    """Return the app. Raises `UsageError` without a reference, else `ConfigurationError`."""
    from brokerq.app import BrokerQ

    if not reference:
        raise click.UsageError("say which app: -A MODULE:BQ, or set BROKERQ_APP")
    module_name, colon, attribute = reference.partition(":")
    if not module_name or not colon or not attribute:
        raise ConfigurationError(
            f"{reference!r} names no app: write MODULE:NAME, such as shop:bq for `bq` in shop.py"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _import(module_name, here)
    found: object = module
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if isinstance(found, BrokerQ):
        return found
    if found is None:
        raise ConfigurationError(
            f"module {module_name!r} has no {attribute!r}: {_apps_in(module, BrokerQ)}"
        )
    raise ConfigurationError(
        f"{reference} is a {type(found).__name__}, not a BrokerQ: {_apps_in(module, BrokerQ)}"
    )


def _import(name: str, here: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigurationError(
                f"there is no module {missing!r} in {here} or among the installed packages"
            ) from exc
        raise _broken(name, exc) from exc
    except (Exception, SystemExit) as exc:
        raise _broken(name, exc) from exc


def _broken(name: str, error: BaseException) -> ConfigurationError:
    """Show the end of the traceback, without the import machinery that comes first."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    lines = "".join(traceback.format_exception(type(error), error, trace)).splitlines()
    shown = "\n  ".join(lines[-TRACEBACK_LINES:])
    return ConfigurationError(f"module {name!r} cannot be imported:\n  {shown}")


def _is_machinery(filename: str) -> bool:
    return filename in {__file__, importlib.__file__} or filename.startswith("<frozen importlib")


def _apps_in(module: ModuleType, kind: type[BrokerQ]) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, kind)]
    if not names:
        return f"it holds no BrokerQ (make one: `bq = BrokerQ({module.__name__!r})`)"
    return "it holds " + ", ".join(f"{module.__name__}:{name}" for name in names)
