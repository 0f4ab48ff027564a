"""`brokerq explain`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brokerq.cli.exits import Exit
from brokerq.cli.output import Format, JsonObject, json_option, seconds, write_document
from brokerq.cli.target import app_option, load_app
from brokerq.errors import ConfigurationError, MissingExtraError, UnknownSchemeError

if TYPE_CHECKING:
    from brokerq.broker import Capabilities, QueueSpec
    from brokerq.connect import Backends
    from brokerq.definition import Definition


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What is explained.

    Attributes:
        store_missing: Why an app on these URLs would be refused.
        queues: None: no app was asked about.
        jobs: The app's.
    """

    backends: Backends
    store_missing: str | None = None
    queues: list[QueueSpec] | None = None
    jobs: tuple[Definition, ...] = ()


@click.command(short_help="Say what the broker can do, and what the app would get.")
@click.argument("url", required=False)
@app_option
@json_option
def explain(*, url: str | None, reference: str | None, output: Format) -> int:
    """Say what the broker and the store can do, and what the app's queues would get.

    With an app: on its own URLs, or on URL instead. Without one: what URL can do. Nothing is
    connected. Exit code 1 if a queue or a job needs what the broker cannot keep, or a store is
    missing.
    """
    from brokerq.explain import explanation, needs

    subject = _subject(url, reference)
    backends, queues = subject.backends, subject.queues
    can = backends.broker.capabilities
    found = needs(queues or (), can, subject.jobs, stored=backends.store is not None)
    if output == "json":
        write_document(
            {
                "where": backends.description,
                "store": backends.store is not None,
                "store_missing": subject.store_missing,
                "capabilities": _capabilities(can),
                "needs": [
                    {"queue": n.queue, "what": n.what, "kept": n.kept, "how": n.how} for n in found
                ],
            }
        )
    else:
        text = explanation(
            where=backends.description,
            can=can,
            stored=backends.store is not None,
            store_missing=subject.store_missing,
            queues=queues,
            jobs=subject.jobs,
        )
        click.echo(text, nl=False)
    kept = all(need.kept for need in found) and subject.store_missing is None
    return Exit.OK if kept else Exit.FAILED


def _subject(url: str | None, reference: str | None) -> _Subject:
    if reference is None:
        if url is None and not os.environ.get("BROKERQ_URL"):
            raise click.UsageError("name a URL, or an app with -A MODULE:BQ")
        return _on(url, None)
    bq = load_app(reference)
    queues = [queue.spec for queue in bq.registry.queues.values()]
    jobs = tuple(bq.registry.jobs.values())
    if url is not None:
        return replace(_on(url, queues), jobs=jobs)
    return _Subject(backends=bq.jobs.session.backends(), queues=queues, jobs=jobs)


def _on(url: str | None, queues: list[QueueSpec] | None) -> _Subject:
    """Look at URLs; where a store is missing, say so and go on without one."""
    from brokerq.clock import SystemClock
    from brokerq.connect import open_backends
    from brokerq.settings import load_settings

    settings = load_settings()
    broker = url or settings.url
    store = settings.store_url
    clock, cwd = SystemClock(), Path.cwd()
    try:
        backends = open_backends(broker, store, app="explain", clock=clock, cwd=cwd)
    except (MissingExtraError, UnknownSchemeError):
        raise
    except ConfigurationError as exc:
        if store is not None:
            raise
        backends = open_backends(broker, "none://", app="explain", clock=clock, cwd=cwd)
        return _Subject(backends=backends, store_missing=str(exc), queues=queues)
    return _Subject(backends=backends, queues=queues)


def _capabilities(can: Capabilities) -> JsonObject:
    return {
        "max_body": can.max_body,
        "max_delay_seconds": seconds(can.max_delay),
        "max_batch": can.max_batch,
        "lease_seconds": seconds(can.lease),
        "max_hold_seconds": seconds(can.max_hold),
        "ordering": can.ordering.value,
        "delayed_ordering": can.delayed_ordering,
        "max_levels": can.max_levels,
        "counting": can.counting.value,
        "durability": can.durability.value,
        "reports_lost_lease": can.reports_lost_lease,
        "publish_in_transaction": can.publish_in_transaction,
    }
