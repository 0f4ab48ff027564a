"""What went wrong at SQS, in our words; and what is tried again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from brokerq_sqs.client import Failure, Failures
from brokerq_sqs.errors import CallFailedError, translate
from brokerq_sqs.persistence import Persistence

from brokerq.errors import (
    BrokerqError,
    ConfigurationError,
    ConnectionLostError,
    StorageError,
    UnknownQueueError,
)

URL = "http://127.0.0.1:1"


def refused(code: str, status: int = 400) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": "why"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "SendMessage")  # type: ignore[arg-type]  # the rest is not read


@pytest.mark.parametrize(
    ("exc", "kind", "transient", "maybe_done"),
    [
        (EndpointConnectionError(endpoint_url=URL), ConnectionLostError, True, False),
        (ConnectTimeoutError(endpoint_url=URL), ConnectionLostError, True, False),
        (ReadTimeoutError(endpoint_url=URL), ConnectionLostError, True, True),
        (ConnectionClosedError(endpoint_url=URL), ConnectionLostError, True, True),
        (refused("InternalError", 500), ConnectionLostError, True, True),
        (refused("RequestThrottled"), ConnectionLostError, True, False),
        (refused("AWS.SimpleQueueService.OverLimit", 403), ConnectionLostError, True, False),
        (refused("ThrottlingException", 503), ConnectionLostError, True, False),
        (refused("AWS.SimpleQueueService.NonExistentQueue"), UnknownQueueError, False, False),
        (refused("com.amazonaws.sqs#QueueDoesNotExist"), UnknownQueueError, False, False),
        (refused("AccessDenied", 403), ConfigurationError, False, False),
        (refused("KmsDisabled"), StorageError, False, False),
        (NoCredentialsError(), ConfigurationError, False, False),
    ],
)
def test_each_failure_is_one_of_ours(
    exc: Exception,
    kind: type[BrokerqError],
    transient: bool,  # noqa: FBT001
    maybe_done: bool,  # noqa: FBT001
) -> None:
    failure = translate(exc, "SendMessage of shop__mail")
    assert type(failure.error) is kind
    assert (failure.transient, failure.maybe_done) == (transient, maybe_done)
    assert str(failure.error).startswith("SendMessage of shop__mail: ")


def test_who_lacks_a_right_is_told_where_it_is_written() -> None:
    text = str(translate(refused("AccessDenied", 403), "SendMessage of q").error)
    assert "why (AccessDenied)" in text
    assert "brokerq topology" in text


@pytest.mark.parametrize("code", ["InvalidSignatureException", "RequestExpired"])
def test_who_signs_what_aws_does_not_take_is_told_to_look_at_the_clock(code: str) -> None:
    """A signature is good for five minutes."""
    failure = translate(refused(code, 403), "SendMessage of q")
    assert type(failure.error) is ConfigurationError
    assert "this host's clock" in str(failure.error)


def persistence(patience: float = 5.0) -> Persistence:
    return Persistence(Random(1), patience=patience)


def busy() -> CallFailedError:
    return translate(refused("RequestThrottled"), "x")


def timed_out() -> CallFailedError:
    return translate(ReadTimeoutError(endpoint_url=URL), "x")


def replay(
    answers: Sequence[Failures | CallFailedError],
) -> tuple[list[list[str]], Callable[[Sequence[str]], Awaitable[Failures]]]:
    """Return a call that answers so, and the entries that it was given."""
    given: list[list[str]] = []
    left = list(answers)

    async def call(entries: Sequence[str]) -> Failures:
        given.append(list(entries))
        answer = left.pop(0)
        if isinstance(answer, CallFailedError):
            raise answer
        return answer

    return given, call


async def test_only_the_entries_that_failed_are_tried_again() -> None:
    theirs = Failure("theirs", transient=False)
    given, call = replay([{1: Failure("busy", transient=True), 2: theirs}, {}])
    assert await persistence().batch(["a", "b", "c"], call) == [None, None, theirs]
    assert given == [["a", "b", "c"], ["b"]]


async def test_a_call_that_failed_is_tried_again_whole() -> None:
    given, call = replay([busy(), timed_out(), {}])
    assert await persistence().batch(["a", "b"], call) == [None, None]
    assert given == [["a", "b"]] * 3


async def test_what_may_have_been_done_once_stays_in_doubt() -> None:
    final = Failure("final", transient=False)
    _, call = replay([timed_out(), {0: final}])
    outcomes = await persistence().batch(["a", "b"], call)
    assert outcomes == [final._replace(maybe_done=True), None]
    _, call = replay([busy(), {0: final}])
    assert await persistence().batch(["a"], call) == [final]


async def test_patience_ends() -> None:
    failure = busy()

    async def call(entries: Sequence[str]) -> Failures:
        raise failure

    [outcome] = await persistence(patience=0.1).batch(["a"], call)
    assert outcome is not None
    assert outcome.busy
    assert not outcome.maybe_done


async def test_nothing_is_tried_again_when_the_lease_has_ended() -> None:
    """The message may be somebody else's by then, and SQS would do as it is told."""
    seen, call = replay([busy(), busy(), {}])
    [outcome] = await persistence().batch(["a"], call, within=0.0)
    assert outcome is not None
    assert outcome.busy
    assert seen == [["a"]]


async def test_a_single_call_raises_ours_in_the_end() -> None:
    calls = 0

    async def call() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise busy()
        return calls

    assert await persistence().call(call) == 3

    async def refuse() -> int:
        raise translate(refused("AccessDenied"), "x")

    with pytest.raises(ConfigurationError):
        await persistence().call(refuse)
