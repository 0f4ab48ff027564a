"""`brokerq jobs`: their records."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from brokerq.cli.arguments import argument_options, read_arguments
from brokerq.cli.exits import Exit, exit_for_many
from brokerq.cli.output import (
    Format,
    JsonObject,
    json_option,
    json_options,
    write_document,
    write_fields,
    write_line,
    write_rows,
)
from brokerq.cli.parameters import duration
from brokerq.cli.target import app_option, with_app
from brokerq.cli.views import JOB_COLUMNS, history_line, job_details, job_summary
from brokerq.errors import NotFoundError, RefusedError
from brokerq.record import CancelAnswer, State

if TYPE_CHECKING:
    from brokerq.app import BrokerQ
    from brokerq.store import JobFilter, JobView

PAGE = 200


@click.group()
def jobs() -> None:
    """Look at jobs, cancel them, run them again."""


@jobs.command("ls")
@app_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([s.value for s in State]),
    metavar="STATE",
    help="Only in this state, such as queued, running or dead. Repeatable.",
)
@click.option("--job", help="Only this job.")
@click.option("--queue", help="Only this queue.")
@click.option("--key", help="Only the job with this idempotency key.")
@click.option("--tag", help="Only with this tag.")
@click.option("--correlation", help="Only with this correlation id.")
@click.option("--older-than", type=duration, help="Only published longer ago.")
@click.option("--newer-than", type=duration, help="Only published since.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many at most."
)
@json_options
def list_jobs(
    *,
    reference: str | None,
    states: Sequence[str],
    job: str | None,
    queue: str | None,
    key: str | None,
    tag: str | None,
    correlation: str | None,
    older_than: timedelta | None,
    newer_than: timedelta | None,
    limit: int,
    output: Format,
) -> int:
    """List jobs, newest first."""
    from brokerq.store import JobFilter

    now = datetime.now(UTC)
    wanted = JobFilter(
        states=frozenset(map(State, states)) or None,
        job=job,
        queue=queue,
        key=key,
        tag=tag,
        correlation=correlation,
        before=None if older_than is None else now - older_than,
        after=None if newer_than is None else now - newer_than,
    )

    async def show_all(bq: BrokerQ) -> int:
        rows: list[JsonObject] = []
        async for view in _found(bq, wanted, limit):
            if output == "jsonl":
                write_line(job_summary(view))
            else:
                rows.append(job_summary(view))
        if output == "json":
            write_document({"jobs": rows})
        elif output == "text":
            write_rows("jobs", rows, columns=JOB_COLUMNS)
        return Exit.OK

    return with_app(reference, show_all)


async def _found(bq: BrokerQ, wanted: JobFilter, limit: int) -> AsyncGenerator[JobView]:
    after: str | None = None
    left = limit
    while left:
        size = min(left, PAGE)
        page = await bq.jobs.search(wanted, limit=size, after=after)
        for view in page:
            yield view
        if len(page) < size:
            return
        left -= len(page)
        after = page[-1].id


@jobs.command("show")
@click.argument("job_id", metavar="ID")
@app_option
@json_option
def show_job(*, job_id: str, reference: str | None, output: Format) -> int:
    """Show all that is recorded of a job."""

    async def show(bq: BrokerQ) -> int:
        view = await bq.jobs.status(job_id)
        details = job_details(view, bq.registry.redaction(view.job))
        if output == "json":
            write_document({"job": details})
        else:
            lines = {**details, "history": [history_line(step) for step in view.history]}
            write_fields(lines, names=[name for name in lines if name != "headers"])
        return Exit.OK

    return with_app(reference, show)


@jobs.command("cancel")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@app_option
@json_option
def cancel_jobs(*, job_ids: Sequence[str], reference: str | None, output: Format) -> int:
    """Cancel jobs: waiting ones end, running ones are asked to."""

    async def cancel(bq: BrokerQ) -> int:
        answers = {job_id: await _cancel(bq, job_id) for job_id in job_ids}
        if output == "json":
            rows = [{"id": job_id, "answer": answer} for job_id, answer in answers.items()]
            write_document({"jobs": rows})
        else:
            for job_id, answer in answers.items():
                click.echo(f"{job_id}  {answer}")
        missing = sum(answer == "not_found" for answer in answers.values())
        late = sum(answer == CancelAnswer.TOO_LATE for answer in answers.values())
        done = len(answers) - missing - late
        return exit_for_many(done=done, missing=missing, refused=late)

    return with_app(reference, cancel)


async def _cancel(bq: BrokerQ, job_id: str) -> str:
    try:
        return (await bq.jobs.cancel(job_id)).value
    except NotFoundError:
        return "not_found"


@jobs.command("rerun")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@app_option
@argument_options
def rerun_jobs(
    *,
    job_ids: Sequence[str],
    reference: str | None,
    pairs: Sequence[str],
    document: str | None,
) -> int:
    """Publish ended jobs again, under new ids, and write those.

    --arg and --json replace all of the old arguments; they are for one job. The new job has no
    idempotency key.
    """
    arguments = read_arguments(pairs, document) if pairs or document is not None else None
    if arguments is not None and len(job_ids) > 1:
        raise click.UsageError("new arguments are for one job at a time")

    async def rerun(bq: BrokerQ) -> int:
        done = missing = refused = 0
        for job_id in job_ids:
            try:
                published = await bq.jobs.rerun(job_id, body=await _body(bq, job_id, arguments))
            except NotFoundError as exc:
                missing += 1
                click.echo(f"brokerq: {exc}", err=True)
            except RefusedError as exc:
                refused += 1
                click.echo(f"brokerq: {exc}", err=True)
            else:
                done += 1
                click.echo(published.id)
        return exit_for_many(done=done, missing=missing, refused=refused)

    return with_app(reference, rerun)


async def _body(bq: BrokerQ, job_id: str, arguments: dict[str, object] | None) -> bytes | None:
    """Return new arguments as the job reads them, checked where its code is at hand."""
    if arguments is None:
        return None
    from brokerq.options import PublishOptions
    from brokerq.requests import request_by_name

    view = await bq.jobs.status(job_id)
    options = PublishOptions(queue=view.queue)
    return request_by_name(bq.registry, view.job, arguments, options).body
