"""Programs of the system that tests start: as whom they run, and how all of them end."""

from __future__ import annotations

import os
import pwd
import signal
import time
from contextlib import suppress
from pathlib import Path

PATIENCE = 60.0
LOOK = 0.02


def other_than_root(name: str) -> dict[str, str | int | list[str]]:
    """Return what `subprocess` needs to run a program that refuses root: as that user then."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(name)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give(folder: Path, name: str) -> None:
    """Let the user have a folder of ours, if we are root."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(name)
        os.chown(folder, user.pw_uid, user.pw_gid)


def kill_family(pid: int) -> None:
    """End a process and its children at once; returns when all of them are gone.

    It is stopped first, so that it makes no child that is missed. Whoever started it still has to
    await it.
    """
    os.kill(pid, signal.SIGSTOP)
    family = [pid, *_children(pid)]
    for each in family:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while any(is_running(each) for each in family):
        assert time.monotonic() < deadline, f"some of {family} do not die"
        time.sleep(LOOK)


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii")
    return [int(pid) for pid in found.split()]


def is_running(pid: int) -> bool:
    """Tell whether it runs; what only waits for its parent to look does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}
