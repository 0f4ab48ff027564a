"""What botocore and SQS say went wrong -> which of our errors it is, and whether to try again."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError

from brokerq.errors import (
    BrokerqError,
    ConfigurationError,
    ConnectionLostError,
    StorageError,
    UnknownQueueError,
)

_SERVER_FAULT = 500
_NO_QUEUE = frozenset({"NonExistentQueue", "QueueDoesNotExist"})
_BUSY = frozenset(
    {
        "KmsThrottled",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "KmsAccessDenied",
        "MissingAuthenticationToken",
        "OptInRequired",
        "UnrecognizedClientException",
    }
)
_MISDATED = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_NEVER_ARRIVED = (EndpointConnectionError, ConnectTimeoutError)
_NETWORK = (ConnectionError, HTTPClientError, ResponseStreamingError, ResponseParserError)

CLIENT_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
"""All that a call of the client raises, bugs apart."""


class CallFailedError(Exception):
    """One call did not succeed.

    Attributes:
        error: What it is to the rest of brokerq.
        transient: Whether the same call may succeed later.
        busy: Whether SQS is there and asks for patience.
        maybe_done: Whether SQS may have carried it out nevertheless.
    """

    def __init__(
        self, error: BrokerqError, *, transient: bool, busy: bool = False, maybe_done: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.transient = transient
        self.busy = busy
        self.maybe_done = maybe_done


def translate(exc: Exception, doing: str) -> CallFailedError:
    """Return what one of `CLIENT_ERRORS` means; `doing` names the action and its queue."""
    if isinstance(exc, ClientError):
        return _refused(exc, doing)
    if isinstance(exc, _NETWORK):
        error = ConnectionLostError(f"{doing}: SQS cannot be reached: {exc}")
        arrived = not isinstance(exc, _NEVER_ARRIVED)
        return CallFailedError(error, transient=True, maybe_done=arrived)
    return CallFailedError(ConfigurationError(f"{doing}: {exc}"), transient=False)


def _refused(exc: ClientError, doing: str) -> CallFailedError:
    said = exc.response.get("Error", {})
    code = short_code(said.get("Code", ""))
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"{doing}: {said.get('Message') or 'no reason given'} ({code})"
    if is_busy(code):
        return CallFailedError(ConnectionLostError(text), transient=True, busy=True)
    if status >= _SERVER_FAULT:
        return CallFailedError(ConnectionLostError(text), transient=True, maybe_done=True)
    if code in _NO_QUEUE:
        return CallFailedError(UnknownQueueError(text), transient=False)
    if code in _DENIED:
        hint = "; `brokerq topology iam` shows the rights that each role needs"
        return CallFailedError(ConfigurationError(text + hint), transient=False)
    if code in _MISDATED:
        hint = "; the secret key, or this host's clock, is wrong"
        return CallFailedError(ConfigurationError(text + hint), transient=False)
    return CallFailedError(StorageError(text), transient=False)


def short_code(code: str) -> str:
    """Return SQS's code without the prefixes that its two protocols put before it."""
    return code.rpartition("#")[2].rpartition(".")[2]


def is_busy(code: str) -> bool:
    """Tell whether the code asks to try again later."""
    return code in _BUSY


def is_missing_queue(failure: CallFailedError) -> bool:
    """Tell whether there is no such queue."""
    return isinstance(failure.error, UnknownQueueError)


def no_access(exc: Exception) -> ConfigurationError:
    """Return the error of credentials, or a profile, that cannot be found or read."""
    return ConfigurationError(
        f"no access to AWS: {exc}; credentials come from the usual chain: the environment "
        "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for an emulator any), a profile, a role"
    )


def closed() -> ConnectionLostError:
    """Return the error of a use before `open`, or after `close`."""
    return ConnectionLostError("the SQS broker is not open, or was closed: call open() first")


def forked() -> ConnectionLostError:
    """Return the error of a use in a forked child."""
    return ConnectionLostError(
        "the SQS broker was opened before this process was forked off, and its threads do not "
        "survive that: call open() in the child"
    )
