"""PostgreSQL servers of one's own, which may be killed, and a PgBouncer before them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.services.availability import require_service
from tests.services.ports import HOST, free_port
from tests.services.processes import LOOK, PATIENCE, give, kill_family, other_than_root

USER = "postgres"
_INSTALLED = Path("/usr/lib/postgresql")
_BOUNCER = "pgbouncer"
_DEFAULTS = {
    # A killed process loses nothing for want of it; only a host that fails would.
    "fsync": "off",
    "max_connections": "200",
    # In the folder, where it goes with the rest.
    "dynamic_shared_memory_type": "mmap",
}


def own_server(settings: Mapping[str, str] | None = None) -> Server:
    """Return a server that is not yet started; skips the test, or fails it, where it cannot be.

    Args:
        settings: Of the server, as in `postgresql.conf`.
    """
    found = sorted(_INSTALLED.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if not found:
        require_service("PostgreSQL", "it is not installed: apt-get install postgresql")
    return Server(settings, programs=found[-1].parent)


class Daemon:
    """A program with a folder and a port of its own; a context manager that leaves nothing behind.

    Attributes:
        folder: Everything it has on disk.
    """

    def __init__(self, name: str) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"brokerq-{name}-"))
        give(self.folder, USER)
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """Its first process; it must run."""
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it; returns when it answers."""
        assert self._process is None, "it runs already"
        with (self.folder / "output").open("ab") as output:
            process: subprocess.Popen[bytes] = self._run(subprocess.Popen, self.command(), output)
        self._process = process
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                log = self.log()
                self._process = None if code is not None else process
                self.close()
                raise RuntimeError(f"{self._name} does not start (exit code {code}):\n{log}")
            time.sleep(LOOK)

    def _run(self, run: Any, command: list[str], output: Any) -> Any:
        return run(
            command,
            cwd=self.folder,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **other_than_root(USER),
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.Error:
            return False
        return True

    def log(self) -> str:
        """Return the end of what it has written."""
        return (self.folder / "output").read_text("utf-8", "replace")[-20_000:]

    def stop(self) -> None:
        """Have it shut down in order, whoever is connected; returns when it is gone."""
        self._end(signal.SIGINT)

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE)
        self._process = None

    def kill(self) -> None:
        """End it and its children at once, as a crash would; returns when they are gone."""
        assert self._process is not None
        kill_family(self._process.pid)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Shut it down in order and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it if it runs, and remove all that is left; twice is harmless."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        if self.folder.exists():
            shutil.rmtree(self.folder)


class Server(Daemon):
    """A PostgreSQL on loopback, to which every local user may connect."""

    def __init__(self, settings: Mapping[str, str] | None, *, programs: Path) -> None:
        super().__init__("postgres")
        self._programs = programs
        self._settings = {**_DEFAULTS, **(settings or {})}

    def command(self) -> list[str]:
        settings = {
            **self._settings,
            "port": str(self.port),
            "listen_addresses": HOST,
            "unix_socket_directories": str(self.folder),
        }
        given = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._programs / "postgres"), "-D", str(self._data), *given]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        if not self._data.exists():
            initdb = [str(self._programs / "initdb"), "-D", str(self._data), "--no-sync"]
            how = [f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--no-locale"]
            with (self.folder / "output").open("ab") as output:
                done = self._run(subprocess.run, [*initdb, *how], output)
            assert done.returncode == 0, self.log()
        super().start()

    def administrator(self, *, autocommit: bool = False) -> psycopg.Connection[Any]:
        """Connect as one whose statements may take their time, whatever the server's settings."""
        patience = "-c statement_timeout=0"
        return psycopg.connect(self.url, autocommit=autocommit, options=patience)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as an administrator, and return its rows."""
        with self.administrator(autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        # What a killed server leaves in the system; one that is started again removes it.
        left = self._data / "postmaster.pid"
        if self._process is None and left.exists():
            segment = left.read_text("ascii").splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=False, capture_output=True)
        super().close()


class Pooler(Daemon):
    """A PgBouncer in transaction mode before a server; it has few connections to it."""

    def __init__(self, server: int, *, size: int = 5) -> None:
        """Write its settings.

        Args:
            server: The server's port.
            size: How many connections to it there are at most.
        """
        program = shutil.which(_BOUNCER, path=f"{os.defpath}:/usr/sbin:/sbin")
        if program is None:
            require_service("PgBouncer", "it is not installed: apt-get install pgbouncer")
        super().__init__(_BOUNCER)
        self._program = str(program)
        self._settings = self.folder / "settings.ini"
        self._settings.write_text(
            f"""
            [databases]
            * = host={HOST} port={server} user={USER}
            [pgbouncer]
            listen_addr = {HOST}
            listen_port = {self.port}
            unix_socket_dir =
            auth_type = any
            pool_mode = transaction
            default_pool_size = {size}
            max_client_conn = 500
            server_login_retry = 0.1
            """.replace("            ", ""),
            "ascii",
        )

    def command(self) -> list[str]:
        return [self._program, str(self._settings)]
