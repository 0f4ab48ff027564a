"""Which processes a handler left behind."""

from collections.abc import Sequence
from pathlib import Path


def are_gone(pids: Sequence[int]) -> bool:
    """Tell whether none of the processes runs; nobody may have collected a zombie yet."""
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if status.rpartition(")")[2].split()[0] != "Z":
            return False
    return True


def hanging(folder: Path) -> list[int]:
    """Return the handler that hangs and the program it started; nothing: it does not hang yet."""
    notes = folder / "pids"
    return [int(word) for word in notes.read_text("utf-8").split()] if notes.exists() else []
