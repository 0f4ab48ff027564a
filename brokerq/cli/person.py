"""Who gives a command."""

from __future__ import annotations

import getpass

import click

by_option = click.option("--by", help="Who does it; your user name if left out.")


def name_of(by: str | None) -> str:
    """Return the name given, else the user's as far as the system knows it."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        return "unknown"
