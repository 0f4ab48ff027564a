"""`brokerq topology`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import click

from brokerq.cli.exits import Exit
from brokerq.cli.output import Format, JsonObject, json_option, printable, write_document
from brokerq.cli.target import app_option, load_app
from brokerq.errors import CapabilityError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from brokerq.broker import Broker, QueueSpec
    from brokerq.connect import Backends
    from brokerq.topology import Difference, Permissions, Resource, Topology


@click.group()
def topology() -> None:
    """Look at what the app's queues are in the broker; make it, compare it.

    Needs the broker's URL only, no store.
    """


@topology.command("plan")
@app_option
@json_option
def show_plan(*, reference: str | None, output: Format) -> int:
    """Say what the app's queues need in the broker; connects to nothing."""
    backends, queues = _load(reference)
    _write_resources(_planner(backends.broker).plan(queues), output)
    return Exit.OK


@topology.command("apply")
@app_option
@json_option
def apply_plan(*, reference: str | None, output: Format) -> int:
    """Make what is missing, and list what there is now.

    What is there and differs is not changed: every difference is told.
    """
    backends, queues = _load(reference)
    asyncio.run(_declare(backends, queues))
    _write_resources(_resources(backends.broker, queues), output)
    return Exit.OK


@topology.command("check")
@app_option
@json_option
def check_plan(*, reference: str | None, output: Format) -> int:
    """List what is missing or differs; changes nothing. Exit code 1 if anything does."""
    backends, queues = _load(reference)
    _planner(backends.broker)
    differences = asyncio.run(_compare(backends, queues))
    if output == "json":
        write_document({"differences": [_difference(each) for each in differences]})
    elif not differences:
        click.echo("no differences", err=True)
    else:
        for each in differences:
            click.echo(printable(str(each)))
    return Exit.FAILED if differences else Exit.OK


@topology.command("permissions")
@click.option("--role", help="Only of this role, as it is: producer, consumer, operator, deployer.")
@app_option
@json_option
def show_permissions(*, reference: str | None, role: str | None, output: Format) -> int:
    """Say which rights in the broker each role needs at least; `topology iam` is the same.

    Connects to nothing.
    """
    from brokerq.topology import Permissions

    backends, queues = _load(reference)
    broker = backends.broker
    if not isinstance(broker, Permissions):
        raise CapabilityError("this broker has no permissions for queues")
    roles = dict(cast("Permissions", broker).permissions(queues))
    if role is not None and role not in roles:
        raise click.BadParameter(
            f"there is no {role!r}, only {', '.join(roles)}", param_hint="--role"
        )
    if output == "json":
        chosen = roles if role is None else {role: roles[role]}
        write_document({"permissions": chosen})
    elif role is not None:
        click.echo(roles[role].rstrip("\n"))
    else:
        click.echo("\n\n".join(f"# {name}\n{text.strip()}" for name, text in roles.items()))
    return Exit.OK


topology.add_command(show_permissions, "iam")


def _load(reference: str | None) -> tuple[Backends, list[QueueSpec]]:
    bq = load_app(reference)
    queues = [queue.spec for queue in bq.registry.queues.values()]
    return bq.jobs.session.backends(stored=False), queues


def _planner(broker: Broker) -> Topology:
    from brokerq.topology import Topology

    if not isinstance(broker, Topology):
        raise CapabilityError(
            "this broker's queues are nothing to plan or compare: they are made when an app opens, "
            "or by `brokerq topology apply`"
        )
    return cast("Topology", broker)


def _resources(broker: Broker, queues: Sequence[QueueSpec]) -> Sequence[Resource]:
    from brokerq.topology import Resource, Topology

    if isinstance(broker, Topology):
        return cast("Topology", broker).plan(queues)
    return [Resource(kind="queue", name=spec.name) for spec in queues]


@asynccontextmanager
async def _opened(backends: Backends) -> AsyncGenerator[Broker]:
    await asyncio.to_thread(backends.make_folder)
    try:
        await backends.broker.open()
        yield backends.broker
    finally:
        await backends.broker.close()


async def _declare(backends: Backends, queues: Sequence[QueueSpec]) -> None:
    async with _opened(backends) as broker:
        await broker.declare(queues)


async def _compare(backends: Backends, queues: Sequence[QueueSpec]) -> Sequence[Difference]:
    async with _opened(backends) as broker:
        return await _planner(broker).drift(queues)


def _write_resources(resources: Sequence[Resource], output: Format) -> None:
    if output == "json":
        write_document({"resources": [_resource(each) for each in resources]})
        return
    for each in resources:
        click.echo(printable(f"{each.kind} {each.name}"))
        width = max(map(len, each.settings), default=0)
        for name, value in each.settings.items():
            click.echo(printable(f"  {name.ljust(width)}  {value}"))
    if not resources:
        click.echo("the app declares no queue", err=True)


def _resource(each: Resource) -> JsonObject:
    return {"kind": each.kind, "name": each.name, "settings": dict(each.settings)}


def _difference(each: Difference) -> JsonObject:
    return {
        "kind": each.kind,
        "name": each.name,
        "setting": each.setting,
        "wanted": each.wanted,
        "actual": each.actual,
    }
