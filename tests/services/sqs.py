"""SQS emulators for tests: server processes on the loopback interface, one of each for a test run.

Each is in a virtual environment of its own, made where it is missing, or before with
`python -m tests.services.sqs`.

Environment:
    BROKERQ_TEST_EMULATORS: The folder of these environments; default: in the user's cache.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import boto3
from botocore.loaders import JSONFileLoader

from tests.services.availability import require_service
from tests.services.ports import HOST, free_port
from tests.services.sharing import Served, shared

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
PATIENCE = 60.0
INSTALLATION = 300
"""Seconds that a test may take which has to install its emulator first."""
_HERE = Path(__file__).parent


def remember_models() -> None:
    """Read each of botocore's data files, megabytes of JSON, once for all sessions of a process."""
    loader: Any = JSONFileLoader
    read = loader.load_file

    @cache
    def read_once(path: str) -> Any:
        return read(JSONFileLoader(), path)

    def load_file(_: JSONFileLoader, file_path: str) -> Any:
        return read_once(file_path)

    loader.load_file = load_file


remember_models()


_create = cast("Callable[..., SQSClient]", cast("Any", boto3).client)


def raw_client(endpoint: str) -> SQSClient:
    """Return boto3's own client, for what a program does that does not know brokerq."""
    return _create("sqs", region_name=REGION, endpoint_url=endpoint)


@cache
def ministack() -> str:
    """Return the URL of ministack; skips the test, or fails it, where it cannot be installed."""
    folder = _environment("ministack", [sys.executable])

    def start() -> Served:
        port = free_port()
        environment = {"BIND_HOST": HOST, "GATEWAY_PORT": str(port)}
        url = f"http://{HOST}:{port}"
        return _serve([folder / "bin" / "ministack"], environment, url, "_ministack/health")

    return shared("ministack", start)


@cache
def localstack() -> str:
    """Return the URL of LocalStack; skips the test, or fails it, where it cannot be installed."""
    python = localstack_python()

    def start() -> Served:
        port = free_port()
        # For IPv4 its server listens on all interfaces, whatever it is told.
        url = f"http://[::1]:{port}"
        environment = {
            "DISABLE_EVENTS": "1",
            "DNS_ADDRESS": "0",
            "EAGER_SERVICE_LOADING": "1",
            "GATEWAY_LISTEN": f"[::1]:{port}",
            "SERVICES": "sqs",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "SQS_ENDPOINT_STRATEGY": "path",
        }
        command = [python, "-m", "localstack.runtime.main"]
        return _serve(command, environment, url, "_localstack/health")

    return shared("localstack", start)


def localstack_python() -> str:
    """Return the Python that has LocalStack; skips the test, or fails it, where there is none."""
    return str(_environment("localstack", _pythons("3.13")) / "bin" / "python")


def _environment(name: str, pythons: Sequence[str]) -> Path:
    """Return the virtual environment of an emulator; twice at the same time is harmless."""
    cached = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "brokerq"
    folder = Path(os.environ.get("BROKERQ_TEST_EMULATORS", cached)) / name
    wanted = _HERE / f"{name}.txt"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = folder / wanted.name  # a copy of what was installed
        if ready.exists() and ready.read_bytes() == wanted.read_bytes():
            return folder
        if not pythons:
            require_service(name, "it needs Python 3.13")
        commands: list[list[str | Path]] = [
            [pythons[0], "-m", "venv", "--clear", folder],
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", wanted],
        ]
        for command in commands:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                require_service(name, f"it cannot be installed: {done.stderr.strip()[-300:]}")
        shutil.copy(wanted, ready)
    return folder


def _pythons(version: str) -> list[str]:
    """Return the Pythons of that version that run; pyenv's name for one may stand for none."""
    found = shutil.which(f"python{version}")
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python{version}"))
    candidates = [*([found] if found else []), *map(str, installed)]
    return list(_running(candidates))


def _running(candidates: Sequence[str]) -> Iterator[str]:
    for candidate in candidates:
        if subprocess.run([candidate, "-V"], check=False, capture_output=True).returncode == 0:
            yield candidate


def _serve(
    command: Sequence[str | Path], environment: Mapping[str, str], url: str, health: str
) -> Served:
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}
        )
        until = time.monotonic() + PATIENCE
        while not _answers(f"{url}/{health}"):
            if server.poll() is not None or time.monotonic() > until:
                server.kill()
                server.wait()
                output.seek(0)
                said = output.read()[-3000:].decode(errors="replace")
                raise RuntimeError(f"{command[0]} does not answer at {url}:\n{said}")
            time.sleep(0.05)
    _call(url)
    return Served(url, server)


def _call(url: str) -> None:
    """Make the first call, for which an emulator loads what it needs: on a busy machine, long."""
    key, secret = CREDENTIALS.values()
    client = _create(
        "sqs",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
    client.list_queues()
    client.close()


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=2).close()  # noqa: S310 - our own server
    except HTTPError:
        return True
    except (URLError, OSError):
        return False
    return True


if __name__ == "__main__":
    ministack()
    localstack()
