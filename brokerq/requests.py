"""From calls and names to requests: arguments are checked and keys computed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic_core import PydanticSerializationError, to_json

from brokerq.definition import Definition
from brokerq.errors import PayloadError, UnknownJobError
from brokerq.options import PublishOptions
from brokerq.payload import Payload, fingerprint, refuse_constants
from brokerq.publishing import Request
from brokerq.registry import Registry


def request_for(definition: Definition, payload: Payload, options: PublishOptions) -> Request:
    """Return the request for a job whose code is at hand."""
    key = options.key if options.key is not None else definition.key(payload.values)
    return Request(  # by position, as it is for every job of many: by name takes twice as long
        definition.name,
        definition.queue,
        payload.body,
        options,
        definition.priority,
        key,
        None if key is None else fingerprint(payload.body),
        definition.tags,
    )


def requests_for(
    definition: Definition,
    payloads: Sequence[tuple[tuple[object, ...], dict[str, object]]],
    options: PublishOptions,
) -> list[Request]:
    """Return a request for each of the arguments, given as in a call."""
    encode = definition.signature.encode
    return [request_for(definition, encode(*given), options) for given in payloads]


def connection_of(requests: Sequence[Request]) -> object:
    """Return the connection that requests with the same options are to be published on, or None."""
    return requests[0].options.connection if requests else None


def request_by_name(
    registry: Registry, job: str, arguments: Mapping[str, object], options: PublishOptions
) -> Request:
    """Return the request for a job by name.

    Raises `PayloadError`, and `UnknownJobError` for a job that is not registered and whose queue is
    not named.
    """
    if not job:
        raise UnknownJobError("the job's name is empty: name the job to publish")
    definition = registry.jobs.get(job)
    if definition is not None:
        return request_for(definition, definition.signature.encode_mapping(arguments), options)
    if options.queue is None:
        try:
            registry.job(job)
        except UnknownJobError as exc:
            raise UnknownJobError(f"{exc}; to publish it all the same, name its queue=") from None
    try:
        body = to_json(dict(arguments), inf_nan_mode="constants", bytes_mode="base64")
    except (PydanticSerializationError, ValueError) as exc:
        raise PayloadError(f"{job}: the arguments cannot be encoded as JSON: {exc}") from exc
    refuse_constants(body, job)
    return Request(
        job=job,
        queue=options.queue or "",
        body=body,
        options=options,
        key=options.key,
        fingerprint=None if options.key is None else fingerprint(body),
    )
