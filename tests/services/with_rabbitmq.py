"""Runs a command with a RabbitMQ node: `python -m tests.services.with_rabbitmq COMMAND ...`.

The command finds it by the environment that `tests.services.rabbitmq` reads; its exit code is
passed on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from tests.services.rabbitmq import Node


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="the system that has RabbitMQ")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    with Node(root=arguments.root) as node:
        print(f"RabbitMQ {node.version} at {node.url}", flush=True)  # noqa: T201 - a command
        found = {
            "BROKERQ_TEST_AMQP_URL": node.url,
            "BROKERQ_TEST_RABBITMQ_ROOT": str(arguments.root),
        }
        done = subprocess.run(arguments.command, env={**os.environ, **found}, check=False)
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
