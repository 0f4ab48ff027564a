"""An app for the tests of the command line, in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from brokerq.cli import run
from brokerq.cli.target import load_app

SHOP = '''\
"""A shop whose customers are sometimes unlucky."""
import os
import signal
import time
from pathlib import Path

from brokerq import BrokerQ, Context, Reject, RetryPolicy

bq = BrokerQ("shop")
other = BrokerQ("other")
number = 7
bq.queue("payments", priorities=("high", "normal"))


@bq.job(queue="payments", retry=RetryPolicy(max_attempts=1), idempotency_key="order_id")
async def charge(ctx: Context, order_id: str, cents: int = 1) -> dict[str, str]:
    ctx.log.info("charging", cents=cents)
    if Path("repaired").exists():
        return {"receipt": order_id}
    if cents < 0:
        raise Reject("amount must be positive")
    if cents == 13:
        raise ValueError("unlucky")
    return {"receipt": order_id}


@bq.job()
def nap(seconds: float, name: str = "nap") -> None:
    Path(f"{name}.{os.getpid()}.began").touch()
    time.sleep(seconds)
    Path(f"{name}.{os.getpid()}.done").touch()


@bq.job()
def hold(name: str) -> None:
    Path(f"{name}.{os.getpid()}.began").touch()
    while not Path("go").exists():
        time.sleep(0.01)


@bq.job(redact=["token"], retry=RetryPolicy(max_attempts=1))
async def login(token: str) -> dict[str, str]:
    if not Path("repaired").exists():
        raise ValueError(f"{token} is not known")
    return {"token": token}


@bq.job()
async def ask(name: str) -> str:
    import asyncio

    Path(f"{name}.{os.getpid()}.began").touch()
    await asyncio.sleep(3600)
    return name


@bq.job()
def pid(n: int) -> int:
    Path(f"pid.{n}.{os.getpid()}").touch()
    return os.getpid()


@bq.job()
def die(n: int) -> None:
    if not Path(f"died.{n}").exists():
        Path(f"died.{n}").touch()
        os.kill(os.getpid(), signal.SIGKILL)


@bq.job()
def hoard(size: int) -> None:
    global hoarded
    hoarded = b"x" * size
'''

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Runs commands in this process."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        self.capture.readouterr()
        code = run([str(each) for each in arguments])
        out, err = self.capture.readouterr()
        return code, out, err

    def do(self, *arguments: object) -> str:
        """Return the stdout of a command that succeeds."""
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return out.strip()

    def read(self, *arguments: object) -> JsonObject:
        """Return the document that a command writes."""
        document = cast("JsonObject", json.loads(self.do(*arguments, "--json")))
        assert document["schema"] == 1
        return document

    def charge(self, order_id: str, cents: int = 1) -> str:
        """Publish a charge; return its id."""
        return self.do(
            "publish", "charge", "--arg", f"order_id={order_id}", "--arg", f"cents={cents}"
        )

    def work(self) -> None:
        """Do all there is to do; without the command, whose signal handlers would stay here."""
        bq = load_app("shop:bq")

        async def burst() -> None:
            async with bq:
                await bq.run_worker(burst=True)

        asyncio.run(burst())


@contextmanager
def open_shop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
) -> Generator[Shop]:
    """Make the app's folder the current one, on a broker in this process."""
    (folder / "shop.py").write_text(SHOP, "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("BROKERQ_URL", f"memory://{folder.name}")
    monkeypatch.setenv("BROKERQ_APP", "shop:bq")
    logger = logging.getLogger("brokerq")
    before = logger.level, logger.propagate, list(logger.handlers)
    known = set(sys.modules)
    yield Shop(folder=folder, capture=capture)
    logger.level, logger.propagate, logger.handlers = before
    for name in set(sys.modules) - known:
        found = getattr(sys.modules[name], "__file__", None) or ""
        if found.startswith(str(folder)):
            del sys.modules[name]
