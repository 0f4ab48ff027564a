"""A lock between processes that is fair enough, beside the file.

SQLite's own wait (`busy_timeout`) polls with growing pauses, so a process that writes all the time
starves the others. A wait in the kernel is woken as soon as the lock is free.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path


class FileLock:
    """An exclusive `flock` on a file that holds nothing else; used by one thread.

    The kernel offers no wait with a time limit. So the wait is made by a thread of its own, which
    is left behind when the limit is reached, and then gives the lock back as soon as it gets it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._wait: _Wait | None = None

    def acquire(self, timeout: float) -> bool:
        """Take the lock; False if somebody else kept it for all of `timeout` seconds."""
        wait = self._wait
        if wait is not None and not wait.resume():
            wait = self._wait = None
        if wait is None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait = self._wait = _Wait(self._file)
            else:
                return True
        if not wait.granted.wait(timeout) and wait.leave():
            return False
        self._wait = None
        return True

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Be done with it, and with a wait that was left behind when that ends."""
        wait, self._wait = self._wait, None
        if wait is None or not wait.leave(close=True):
            os.close(self._file)


class _Wait:
    """One blocking call for the lock, in a thread."""

    def __init__(self, file: int) -> None:
        self.granted = threading.Event()
        self._file = file
        self._guard = threading.Lock()
        self._wanted = True
        self._over = False
        self._close = False
        threading.Thread(target=self._run, name="brokerq-sqlite-lock", daemon=True).start()

    def _run(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with self._guard:
            self._over = True
            if self._wanted:
                self.granted.set()
            elif self._close:
                os.close(self._file)
            else:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def leave(self, *, close: bool = False) -> bool:
        """Want the lock no more; False if the call has ended: granted, or given back."""
        with self._guard:
            if not self._over:
                self._wanted, self._close = False, close
            return not self._over

    def resume(self) -> bool:
        """Want it again; False if the call has ended."""
        with self._guard:
            if not self._over:
                self._wanted = True
            return not self._over
