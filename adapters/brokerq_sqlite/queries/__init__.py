"""The statements, each in a file named by its verb."""

from __future__ import annotations

from importlib.resources import files


def load(name: str) -> str:
    """Return the statement in `<name>.sql`."""
    return files(__name__).joinpath(f"{name}.sql").read_text("utf-8")
