"""Every error that brokerq raises.

BrokerqError
├── ConfigurationError          the program or its settings are wrong; nothing was sent
│   ├── UnknownSchemeError      no installed adapter knows the URL's scheme
│   ├── MissingExtraError       the adapter is known, its client library is not installed
│   ├── CapabilityError         the broker or store cannot do what was asked
│   └── DriftError              what the broker has differs from what the app declares
├── PayloadError                the arguments do not fit the job
├── UnknownJobError, UnknownQueueError
├── BodyTooLargeError
├── KeyConflictError            the idempotency key is held with another payload
├── PublishError                which messages the broker did not take, or may have taken
├── ConnectionLostError         broker or store cannot be reached now; trying again may help
│   └── StoreUnavailableError
├── StorageError                the broker's or store's storage is full, read-only or damaged
├── NotFoundError               no such job or dead letter
├── RefusedError                the operation does not fit the state of the thing
├── ResultUnavailableError      the job has ended without a result that can be returned
│   └── JobFailedError
└── WaitTimeoutError

What a handler raises to say what is to become of its job is in `brokerq.outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence


class BrokerqError(Exception):
    """The root of all errors that brokerq raises."""


class ConfigurationError(BrokerqError):
    """The program, its settings or a URL are wrong; nothing was sent."""


class UnknownSchemeError(ConfigurationError):
    """No installed adapter knows the URL's scheme."""


class MissingExtraError(ConfigurationError):
    """The adapter is known but its client library is not installed; the message names the extra."""


class CapabilityError(ConfigurationError):
    """The broker or store cannot do what was asked; nothing was weakened or sent."""


class DriftError(ConfigurationError):
    """What the broker has differs from what the app declares; the message names each difference."""


class PayloadError(BrokerqError):
    """The arguments do not fit the job's parameters, or cannot be encoded as JSON."""


class UnknownJobError(BrokerqError):
    """No job of that name is registered with the app."""


class UnknownQueueError(BrokerqError):
    """The queue, or the priority level within it, is not declared."""


class BodyTooLargeError(BrokerqError):
    """The encoded message is larger than the broker's limit."""


class KeyConflictError(BrokerqError):
    """The idempotency key is held by a job with another payload.

    Attributes:
        job_id: The job that holds the key.
    """

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class PublishError(BrokerqError):
    """Some messages of a batch were not confirmed; the others were.

    Attributes:
        failed: Positions in the batch that the broker definitely did not take.
        unknown: Positions whose outcome is unknown: sending them again under the same id is safe.
    """

    def __init__(
        self, message: str, *, failed: Sequence[int] = (), unknown: Sequence[int] = ()
    ) -> None:
        super().__init__(message)
        self.failed = tuple(failed)
        self.unknown = tuple(unknown)


class ConnectionLostError(BrokerqError):
    """The broker cannot be reached now; trying again may help."""


class StoreUnavailableError(ConnectionLostError):
    """The store cannot be reached now; jobs wait rather than run without their records."""


class StorageError(BrokerqError):
    """The storage of the broker or store is full, read-only, damaged or of another version."""


OUTAGE = (ConnectionLostError, StorageError)
"""What may pass by itself, or by an operator's hand: worth trying again."""


class NotFoundError(BrokerqError):
    """There is no job or dead letter with that id (or it is past its retention)."""


class RefusedError(BrokerqError):
    """The operation does not fit the state of the thing; nothing was changed."""


class ResultUnavailableError(BrokerqError):
    """The job has ended, but has no result that can be returned."""


class JobFailedError(ResultUnavailableError):
    """The job has ended without success.

    Attributes:
        state: The state it ended in: `dead`, `expired`, `cancelled` or `skipped`.
        reason: Why, where it is known.
    """

    def __init__(self, message: str, *, state: str, reason: str | None) -> None:
        super().__init__(message)
        self.state = state
        self.reason = reason


class WaitTimeoutError(BrokerqError, TimeoutError):
    """The job had not ended when the time to wait was over; the job itself goes on."""
