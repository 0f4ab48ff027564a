"""RabbitMQ for tests: the node that stands, and nodes of one's own that may be killed.

Environment:
    BROKERQ_TEST_AMQP_URL: The node that tests share instead of the one at 5672.
    BROKERQ_TEST_RABBITMQ_ROOT: A folder with a whole system in it whose RabbitMQ nodes of one's own
        are, as `rabbitmq4.sh` makes; default: this system's.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.services.availability import require_service
from tests.services.ports import HOST, free_port, is_open

STANDING = f"amqp://guest:guest@{HOST}:5672/"
PATIENCE = 60.0
LOOK = 0.05

_PROGRAMS = "usr/lib/rabbitmq/bin"
_HELLO = b"AMQP\x00\x00\x09\x01"
_VERSION = re.compile(rb"\x07versionS\x00\x00\x00.([0-9.]+)")
# Mounts that the chroot needs are private, so that they end with the process.
_ENTER = 'mount -t proc proc "$1/proc" && exec chroot "$@"'
_DEFAULTS = {
    # The broker tries a dead-lettering again that failed while a queue was coming up; its 180 s
    # are longer than a test can wait. (Milliseconds.)
    "dead_letter_worker_publisher_confirm_timeout": "1000",
}


@cache
def standing_url() -> str:
    """Return the URL of a node that tests share and must not disturb.

    Where none runs, one is started from the system's package, for this process. Skips the test, or
    fails it, where there is none.
    """
    given = os.environ.get("BROKERQ_TEST_AMQP_URL")
    url = given or STANDING
    address = urlsplit(url)
    if is_open(address.port or 5672, address.hostname or HOST):
        return url
    if given:
        require_service("RabbitMQ", f"nobody listens at {given}")
    node = own_node()
    node.start()
    atexit.register(node.close)
    return node.url


def own_node(settings: Mapping[str, str] | None = None, *, managed: bool = False) -> Node:
    """Return a node that is not yet started; skips the test, or fails it, where it cannot be.

    Args:
        settings: As `Node` takes them.
        managed: As `Node` takes it.
    """
    root = Path(os.environ.get("BROKERQ_TEST_RABBITMQ_ROOT", "/"))
    if not (root / _PROGRAMS).exists():
        require_service(
            "RabbitMQ", f"it is not installed in {root}: apt-get install rabbitmq-server"
        )
    if root != Path("/") and os.geteuid() != 0:
        require_service("RabbitMQ", f"only root may start the one in {root}")
    return Node(settings, root=root, managed=managed)


class Node:
    """A broker of one's own on loopback; a context manager that leaves nothing behind.

    A quorum queue that is younger than a second may come back empty after `kill`: that is
    RabbitMQ's (issue 15725 there), so a test declares its queues in time.

    Attributes:
        folder: Everything it has on disk.
        management: Where its management API is, if it is managed.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, root: Path, managed: bool = False
    ) -> None:
        """Choose ports and make the folder.

        Args:
            settings: Of the Erlang application `rabbit`, as Erlang writes them.
            root: The system that has RabbitMQ.
            managed: With the plugin for management, which takes longer to start.
        """
        self.port = free_port()
        self.url = f"amqp://guest:guest@{HOST}:{self.port}/"
        management_port = free_port()
        self.management = f"http://guest:guest@{HOST}:{management_port}"
        self._root = root
        self.folder = Path(tempfile.mkdtemp(prefix="brokerq-rabbitmq-", dir=_temporary(root)))
        self._process: subprocess.Popen[bytes] | None = None
        inside = Path("/", self.folder.relative_to(root))
        self._environment = _environment(inside, self.port)
        self._write("enabled_plugins", "[rabbitmq_management]." if managed else "[].")
        self._write("rabbitmq-env.conf", "")
        wanted = ", ".join(f"{{{k}, {v}}}" for k, v in ({**_DEFAULTS, **(settings or {})}).items())
        listener = f'{{tcp_config, [{{ip, "{HOST}"}}, {{port, {management_port}}}]}}'
        applications = f"{{rabbit, [{wanted}]}}, {{rabbitmq_management, [{listener}]}}"
        self._write("advanced.config", f"[{applications}].")
        self._write(".erlang.cookie", self.folder.name)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text, "ascii")
        path.chmod(0o600)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def version(self) -> str:
        """What it says it is; it must run."""
        found = _VERSION.search(_greeting(self.port))
        assert found is not None
        return found[1].decode()

    @property
    def pid(self) -> int:
        """The broker's process; it must run."""
        return int((self.folder / "pid").read_text("ascii"))

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        assert self._process is None, "it runs already"
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command("rabbitmq-server"),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not _greeting(self.port):
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                log = self.log()
                self._process = None if code is not None else self._process
                self.close()
                raise RuntimeError(f"RabbitMQ does not start (exit code {code}):\n{log}")
            time.sleep(LOOK)

    def stop(self) -> None:
        """Have it shut down in order; returns when it is gone."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would; returns when it is gone."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        deadline = time.monotonic() + PATIENCE
        while is_open(self.port):  # the broker is a grandchild
            assert time.monotonic() < deadline
            time.sleep(LOOK)

    def restart(self) -> None:
        """Shut it down in order and start it again."""
        self.stop()
        self.start()

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; a few seconds."""
        done = subprocess.run(
            self._command("rabbitmqctl", "-q", *arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def log(self) -> str:
        """Return the end of what it has written."""
        files = [self.folder / "output", *self.folder.glob("log/*.log")]
        return "\n".join(f.read_text("utf-8", "replace")[-20_000:] for f in files if f.exists())

    def close(self) -> None:
        """Kill it if it runs, and remove all that is left; twice is harmless."""
        if not self.folder.exists():
            return
        if self._process is not None:
            self.kill()
        # The port mapper, which a node starts and leaves; it goes when it has no node any more.
        mapper = self._entered(["epmd", "-kill"])
        subprocess.run(mapper, env=self._environment, capture_output=True, check=False)
        shutil.rmtree(self.folder)

    def _command(self, program: str, *arguments: str) -> list[str]:
        return self._entered([f"/{_PROGRAMS}/{program}", *arguments])

    def _entered(self, command: list[str]) -> list[str]:
        if self._root == Path("/"):
            return command
        return ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self._root), *command]


def _temporary(root: Path) -> Path:
    return Path(tempfile.gettempdir()) if root == Path("/") else root / "tmp"


def _environment(folder: Path, port: int) -> dict[str, str]:
    """Return the whole environment of a node and its tools; nothing of this process's gets in."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "ERL_CRASH_DUMP_SECONDS": "0",
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_EPMD_PORT": str(free_port()),
        "RABBITMQ_NODENAME": f"{folder.name}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": f"{folder}/data",
        "RABBITMQ_LOG_BASE": f"{folder}/log",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
        "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
        "RABBITMQ_CONF_ENV_FILE": f"{folder}/rabbitmq-env.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
        "RABBITMQ_PID_FILE": f"{folder}/pid",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


def _greeting(port: int) -> bytes:
    """Return the first that a broker says to who greets it; empty while there is none."""
    try:
        with socket.create_connection((HOST, port), timeout=5) as greeted:
            greeted.sendall(_HELLO)
            return greeted.recv(4096)
    except OSError:
        return b""
