"""All use of boto3: one attempt of one call each, in threads; translated where it fails.

Long polls have a client and threads of their own, so that they never keep a delete waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from brokerq_sqs.errors import (
    CLIENT_ERRORS,
    CallFailedError,
    closed,
    is_busy,
    is_missing_queue,
    no_access,
    short_code,
    translate,
)
from brokerq_sqs.settings import Settings
from brokerq_sqs.wire import Entry

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.literals import MessageSystemAttributeNameType
    from mypy_boto3_sqs.type_defs import (
        BatchResultErrorEntryTypeDef,
        MessageTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

T = TypeVar("T")
CALLS = 8
"""Calls under way at the same time, polls apart."""
POLLS = 256
"""Polls under way at the same time: several for each lane that is read."""
_CONNECT_TIMEOUT = 3
CALL_TIMEOUT = 8
POLL_TIMEOUT = 30  # above the longest poll
_SYSTEM: Sequence[MessageSystemAttributeNameType] = (
    "ApproximateReceiveCount",
    "DeadLetterQueueSourceArn",
    "MessageGroupId",
    "SentTimestamp",
)


class Failure(NamedTuple):
    """Why one entry of a batch was not carried out.

    Attributes:
        transient: Whether the same entry may succeed later.
        maybe_done: Whether SQS may have carried it out nevertheless.
        busy: Whether SQS asks for patience.
    """

    reason: str
    transient: bool
    maybe_done: bool = False
    busy: bool = False


Failures = Mapping[int, Failure]
"""By position in the batch; what is not named was carried out."""


class Client:
    """One account's SQS in one region."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sqs: SQSClient | None = None
        self._polling: SQSClient | None = None
        self._call_threads: ThreadPoolExecutor | None = None
        self._poll_threads: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Find the credentials; nothing is sent. Raises `ConfigurationError`."""
        try:
            self._sqs, self._polling = await asyncio.to_thread(_connect, self._settings)
        except CLIENT_ERRORS as exc:
            raise no_access(exc) from exc
        self._call_threads = ThreadPoolExecutor(CALLS, thread_name_prefix="brokerq-sqs")
        self._poll_threads = ThreadPoolExecutor(POLLS, thread_name_prefix="brokerq-sqs-poll")

    async def close(self) -> None:
        """Let go of threads and connections; what is under way is waited for."""
        for threads in (self._call_threads, self._poll_threads):
            if threads is not None:
                await asyncio.to_thread(threads.shutdown)
        for client in (self._sqs, self._polling):
            if client is not None:
                client.close()
        self._sqs = self._polling = self._call_threads = self._poll_threads = None

    @property
    def sqs(self) -> SQSClient:
        """The client for all but polls."""
        if self._sqs is None:
            raise closed()
        return self._sqs

    async def send_batch(self, url: str, entries: Sequence[Entry]) -> Failures:
        """Send up to ten messages."""
        requests = [_request(number, each) for number, each in enumerate(entries)]
        send = partial(self.sqs.send_message_batch, QueueUrl=url, Entries=requests)
        return _failures((await self._call("SendMessage", url, send)).get("Failed", ()))

    async def delete_batch(self, url: str, handles: Sequence[str]) -> Failures:
        """Delete up to ten deliveries' messages."""
        delete = partial(
            self.sqs.delete_message_batch,
            QueueUrl=url,
            Entries=[{"Id": str(n), "ReceiptHandle": each} for n, each in enumerate(handles)],
        )
        return _failures((await self._call("DeleteMessage", url, delete)).get("Failed", ()))

    async def change_visibility_batch(
        self, url: str, changes: Sequence[tuple[str, int]]
    ) -> Failures:
        """Let up to ten deliveries' messages come back so many seconds from now."""
        change = partial(
            self.sqs.change_message_visibility_batch,
            QueueUrl=url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for n, (handle, seconds) in enumerate(changes)
            ],
        )
        answer = await self._call("ChangeMessageVisibility", url, change)
        return _failures(answer.get("Failed", ()))

    async def receive(
        self, url: str, *, limit: int, visibility: int, wait: int
    ) -> Sequence[MessageTypeDef]:
        """Wait for messages, that many seconds at most."""
        if self._polling is None:
            raise closed()
        poll = partial(
            self._polling.receive_message,
            QueueUrl=url,
            MaxNumberOfMessages=limit,
            VisibilityTimeout=visibility,
            WaitTimeSeconds=wait,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=_SYSTEM,
        )
        answer = await _in_thread(self._poll_threads, poll, f"ReceiveMessage from {_name(url)}")
        return answer.get("Messages", ())

    async def attributes(self, url: str) -> dict[str, str]:
        """Return all attributes of a queue."""
        get = partial(self.sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])
        answer = await self._call("GetQueueAttributes", url, get)
        return {str(name): value for name, value in answer.get("Attributes", {}).items()}

    async def url(self, name: str) -> str | None:
        """Return the queue's URL; None: there is no such queue."""
        try:
            get = partial(self.sqs.get_queue_url, QueueName=name)
            return (await self._call("GetQueueUrl", name, get))["QueueUrl"]
        except CallFailedError as exc:
            if is_missing_queue(exc):
                return None
            raise

    async def create(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> str:
        """Create a queue, or find it where it has these attributes; return its URL."""
        settings: Any = attributes  # the type stubs name each attribute
        create = partial(self.sqs.create_queue, QueueName=name, Attributes=settings, tags=tags)
        return (await self._call("CreateQueue", name, create))["QueueUrl"]

    async def set_attributes(self, url: str, attributes: Mapping[str, str]) -> None:
        """Change some attributes of a queue."""
        settings: Any = attributes
        change = partial(self.sqs.set_queue_attributes, QueueUrl=url, Attributes=settings)
        await self._call("SetQueueAttributes", url, change)

    async def _call(self, action: str, url: str, call: Callable[[], T]) -> T:
        return await _in_thread(self._call_threads, call, f"{action} of {_name(url)}")


async def _in_thread(threads: ThreadPoolExecutor | None, call: Callable[[], T], doing: str) -> T:
    if threads is None:
        raise closed()
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, call)
    except CLIENT_ERRORS as exc:
        raise translate(exc, doing) from exc


def _connect(settings: Settings) -> tuple[SQSClient, SQSClient]:
    session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
    if session.get_credentials() is None:
        raise NoCredentialsError

    def make(read_timeout: int, connections: int) -> SQSClient:
        config = Config(
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=read_timeout,
            max_pool_connections=connections,
            parameter_validation=False,  # the entries are made in one place, and tested there
            retries={"mode": "standard", "total_max_attempts": 1},  # persistence.py tries again
            tcp_keepalive=True,
            user_agent="brokerq",
        )
        # The stubs know every service there is, but not those that are not installed.
        create = cast("Callable[..., SQSClient]", cast("Any", session).client)
        return create("sqs", endpoint_url=settings.endpoint, config=config)

    return make(CALL_TIMEOUT, CALLS), make(POLL_TIMEOUT, POLLS)


def _request(number: int, entry: Entry) -> SendMessageBatchRequestEntryTypeDef:
    request: SendMessageBatchRequestEntryTypeDef = {
        "Id": str(number),
        "MessageBody": entry.packed.body,
    }
    if entry.packed.attributes:
        request["MessageAttributes"] = entry.packed.attributes
    if entry.delay:
        request["DelaySeconds"] = entry.delay
    if entry.group is not None:
        request["MessageGroupId"] = entry.group
    if entry.deduplication is not None:
        request["MessageDeduplicationId"] = entry.deduplication
    return request


def _failures(failed: Sequence[BatchResultErrorEntryTypeDef]) -> Failures:
    return {int(each["Id"]): _failure(each) for each in failed}


def _failure(entry: BatchResultErrorEntryTypeDef) -> Failure:
    code = short_code(entry["Code"])
    reason = f"{entry.get('Message') or 'no reason given'} ({code})"
    return Failure(reason, transient=not entry["SenderFault"] or is_busy(code), busy=is_busy(code))


def _name(url: str) -> str:
    return url.rpartition("/")[2]
