"""How a process that waits for messages learns that there are some: FIFOs beside the file.

Each waiting process reads from a FIFO of its own in the directory `<file>-wake`; whoever commits
messages writes into all of them which lanes they are in. One that nobody reads any more, because
its process died, is removed by the first that finds it so. A wake-up that is lost only delays a
message until the waiting process looks by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from brokerq.sql.bell import LaneBell

_ENTRY = struct.Struct("<qq")
_LARGEST_WRITE = 4096  # up to PIPE_BUF a write goes in whole or not at all
_LARGEST_READ = 65536
_ALL = _ENTRY.pack(-1, 0)


class Wakeup:
    """The bells of one event loop, and the FIFOs of the other processes.

    `now` returns the wall clock's time in microseconds, as the due times are.
    """

    def __init__(self, directory: Path, now: Callable[[], int]) -> None:
        self._directory = directory
        self._now = now
        self._bells: dict[int, list[LaneBell]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fifo: _Fifo | None = None
        self._peers = _Peers(directory)

    def add(self, lane: int, bell: LaneBell) -> None:
        """Ring the bell for the lane from now on. Raises `OSError`."""
        if self._fifo is None:
            self._fifo = _Fifo(self._directory)
            self._peers.skip = self._fifo.path.name
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._fifo.reader, self._read)
        self._bells.setdefault(lane, []).append(bell)

    def remove(self, lane: int, bell: LaneBell) -> None:
        """Ring it no more."""
        bells = self._bells[lane]
        bells.remove(bell)
        if not bells:
            del self._bells[lane]
        if not self._bells and self._fifo is not None and self._loop is not None:
            self._loop.remove_reader(self._fifo.reader)
            self._fifo.close()
            self._fifo = self._loop = None

    def announce(self, touched: Mapping[int, int]) -> None:
        """Tell everybody; called by the writing thread, after the commit."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(self._ring, touched)
        self._peers.tell(touched)

    def close(self) -> None:
        """Let go of the others' FIFOs."""
        self._peers.close()

    def _ring(self, touched: Mapping[int, int]) -> None:
        now = self._now()
        for lane, due in touched.items():
            for bell in self._bells.get(lane, ()):
                bell.ring((due - now) / 1e6)

    def _read(self) -> None:
        fifo = self._fifo
        if fifo is None:
            return
        data = fifo.read()
        touched: dict[int, int] = {}
        for lane, due in _ENTRY.iter_unpack(data):
            touched[lane] = min(due, touched.get(lane, due))
        if -1 in touched or len(data) == _LARGEST_READ:
            touched = dict.fromkeys(self._bells, 0)
        self._ring(touched)


class _Fifo:
    """A FIFO that this process reads; its own writing end keeps it from ever being at its end."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.path = directory / name
        hidden = directory / f".{name}"  # nobody may take it for abandoned before it is open
        os.mkfifo(hidden)
        self.reader = os.open(hidden, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._writer = os.open(hidden, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        hidden.rename(self.path)

    def read(self) -> bytes:
        try:
            return os.read(self.reader, _LARGEST_READ)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.reader)
        os.close(self._writer)


class _Peers:
    """The writing ends of the others' FIFOs, kept open."""

    def __init__(self, directory: Path) -> None:
        self.skip: str | None = None
        self._directory = str(directory)
        self._open: dict[str, int] = {}
        self._guard = threading.Lock()

    def tell(self, touched: Mapping[int, int]) -> None:
        with self._guard:
            try:
                names = os.listdir(self._directory)  # noqa: PTH208 - a third of the time of iterdir
            except OSError:
                return  # nobody has ever waited; or they look by themselves
            for gone in self._open.keys() - names:
                os.close(self._open.pop(gone))
            peers = [name for name in names if name != self.skip and not name.startswith(".")]
            if not peers:
                return
            data = b"".join(_ENTRY.pack(lane, due) for lane, due in touched.items())
            for name in peers:
                self._tell_one(name, data if len(data) <= _LARGEST_WRITE else _ALL)

    def _tell_one(self, name: str, data: bytes) -> None:
        path = f"{self._directory}/{name}"
        try:
            file = self._open.get(name)
            if file is None:
                file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._open[name] = file
            os.write(file, data)
        except BlockingIOError:
            return  # it has 4,000 wake-ups to read already
        except OSError as exc:
            if name in self._open:
                os.close(self._open.pop(name))
            if exc.errno in {errno.ENXIO, errno.EPIPE}:  # its process is gone
                with contextlib.suppress(OSError):  # another removed it, or only its owner may
                    os.unlink(path)  # noqa: PTH108 - as above

    def close(self) -> None:
        with self._guard:
            while self._open:
                os.close(self._open.popitem()[1])
