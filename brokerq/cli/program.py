"""The program `brokerq`: its commands, and how errors end it."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from brokerq.cli.demo import demo
from brokerq.cli.dlq import dlq
from brokerq.cli.exits import SIGNALLED, Exit, exit_for
from brokerq.cli.explain import explain
from brokerq.cli.jobs import jobs
from brokerq.cli.migrate import migrate
from brokerq.cli.publish import publish
from brokerq.cli.queues import queues
from brokerq.cli.relay import relay
from brokerq.cli.shutdown import end_now
from brokerq.cli.topology import topology
from brokerq.cli.version import version
from brokerq.cli.worker import worker
from brokerq.errors import BrokerqError

SIGINT = 2
JOB_THREADS = "brokerq-job"
GIVE_WAY = 1.0


@dataclass(slots=True)
class Invocation:
    """One run of the program.

    Attributes:
        debug: Whether errors are shown with their traceback.
    """

    debug: bool = False


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def root(invocation: Invocation | None, *, debug: bool) -> None:
    """Background jobs that survive crashes, on the broker you already run.

    Commands that need an app take it from -A/--app MODULE:BQ, or from BROKERQ_APP. Data goes to
    stdout, everything else to stderr.
    """
    if invocation is not None:
        invocation.debug = debug


_COMMANDS = (
    worker,
    relay,
    publish,
    jobs,
    dlq,
    queues,
    topology,
    migrate,
    explain,
    demo,
    version,
)
for _command in _COMMANDS:
    root.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are told on stderr in one line."""
    invocation = Invocation()
    try:
        code: object = root.main(
            args=list(arguments), prog_name="brokerq", standalone_mode=False, obj=invocation
        )
        sys.stdout.flush()
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("brokerq: interrupted", err=True)
        return SIGNALLED + SIGINT
    except BrokerqError as exc:
        if invocation.debug:
            traceback.print_exc()
        click.echo(f"brokerq: {exc}", err=True)
        return exit_for(exc)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    return code if isinstance(code, int) else Exit.OK


def main() -> NoReturn:
    """Run the command that the program was started with, and exit.

    Python would wait at its end for a handler's thread that never returns; such a job is left to
    another worker.
    """
    code = run(sys.argv[1:])
    if _has_stuck_threads():
        end_now(code)
    sys.exit(code)


def _has_stuck_threads() -> bool:
    """Tell whether a handler still runs; idle threads of the pool end as soon as it is closed."""
    jobs = [thread for thread in threading.enumerate() if thread.name.startswith(JOB_THREADS)]
    for thread in jobs:
        thread.join(GIVE_WAY / len(jobs))
    return any(thread.is_alive() for thread in jobs)
