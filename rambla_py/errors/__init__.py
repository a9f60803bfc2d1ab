"""Every error that rambla_py raises, as one tree.

::

    RamblaError
    ├── ConfigError               the configuration is wrong; lists every problem
    ├── NotRunningError           the app was not started, or has stopped
    ├── AlreadyRunningError       the app runs, or has not ended yet
    ├── UnknownChannelError       no channel of that name            (also LookupError)
    ├── OptionError               an option no target knows, or a bad value
    ├── MailboxFullError          no room, and no leave to wait for it
    ├── ReceiptTimeoutError       a receipt was not complete in time (also TimeoutError)
    ├── PublishError              at least one delivery did not end as ok
    ├── ForkedError               a receipt that belongs to the parent process
    ├── KeptError                 a durable message stays in the outbox
    ├── HandlerError              a handler class breaks the contract
    ├── TelemetryError            two apps in one registry with one name
    └── DeliveryError             one attempt failed                 .retryable
        ├── PermanentError        no retry can mend it
        │   ├── SerializationError
        │   ├── PayloadError      the payload does not fit the channel's schema
        │   └── PayloadTooLargeError
        ├── UnroutableError       the broker had nowhere to put the message
        ├── RejectedError         the backend said no
        ├── UnavailableError      the backend cannot take messages now   .scope, .retry_after_s
        ├── AttemptTimeoutError   the attempt took longer than attempt_timeout_s
        ├── ExpiredError          expires_s passed before an attempt could be made
        ├── DroppedError          dropped before delivery, with the reason
        ├── ConnectionLostError   gone before the write: nothing was sent
        │   └── AccessError       credentials or certificate refused
        │       └── StartError    what the target needs did not start
        └── UnknownOutcomeError   no answer after the write              .connection_lost
"""

from __future__ import annotations

from rambla_py.errors.attempts import (
    AccessError,
    AttemptTimeoutError,
    ConnectionLostError,
    DeliveryError,
    DroppedError,
    ExpiredError,
    PayloadError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    SerializationError,
    StartError,
    UnavailableError,
    UnknownOutcomeError,
    UnroutableError,
    describe,
)
from rambla_py.errors.calls import (
    AlreadyRunningError,
    ConfigError,
    ForkedError,
    HandlerError,
    KeptError,
    MailboxFullError,
    NotRunningError,
    OptionError,
    Problem,
    PublishError,
    ReceiptTimeoutError,
    TelemetryError,
    UnknownChannelError,
)
from rambla_py.errors.root import (
    RamblaError,
    nearest,
)

__all__ = [
    "AccessError",
    "AlreadyRunningError",
    "AttemptTimeoutError",
    "ConfigError",
    "ConnectionLostError",
    "DeliveryError",
    "DroppedError",
    "ExpiredError",
    "ForkedError",
    "HandlerError",
    "KeptError",
    "MailboxFullError",
    "NotRunningError",
    "OptionError",
    "PayloadError",
    "PayloadTooLargeError",
    "PermanentError",
    "Problem",
    "PublishError",
    "RamblaError",
    "ReceiptTimeoutError",
    "RejectedError",
    "SerializationError",
    "StartError",
    "TelemetryError",
    "UnavailableError",
    "UnknownChannelError",
    "UnknownOutcomeError",
    "UnroutableError",
    "describe",
    "nearest",
]
