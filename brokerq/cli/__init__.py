"""The command line.

Its modules import click and little else; what a command needs beyond is imported when it runs, so
that help and completion are quick.
"""

from brokerq.cli.program import main, run

__all__ = ["main", "run"]
