"""Errors of attempts, which handlers raise and outcomes hold."""

from __future__ import annotations

from typing import ClassVar, Self

from rambla_py.errors.root import RamblaError

__all__ = [
    "AccessError",
    "AttemptTimeoutError",
    "ConnectionLostError",
    "DeliveryError",
    "DroppedError",
    "ExpiredError",
    "PayloadError",
    "PayloadTooLargeError",
    "PermanentError",
    "RejectedError",
    "SerializationError",
    "StartError",
    "UnavailableError",
    "UnknownOutcomeError",
    "UnroutableError",
    "describe",
]

_DETAIL = 1_000
_MAY_HAVE_ARRIVED = "; the message may have arrived"


def describe(error: BaseException | None, *, detail: bool = False) -> str:
    """Return an error as ``Type: text``; a third-party ``__str__`` may raise, which must not propagate.

    With ``detail`` what ``DeliveryError.with_detail`` recorded follows.

    >>> describe(ValueError("no"))
    'ValueError: no'
    """
    if error is None:
        return ""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as second:
        text = f"(its text raised {type(second).__name__})"
    if detail and isinstance(error, DeliveryError) and error.detail:
        text = f"{text}; the server says: {error.detail}"
    return f"{name}: {text}" if text else name


class DeliveryError(RamblaError):
    """One attempt failed; ``retryable`` is False where another cannot help.

    Handlers may raise it with any text: ``raise DeliveryError("quota reached")``. Where the backend named a
    time to come back, ``retry_after_s`` holds the seconds: the retry then waits for so long. ``detail`` is
    what the backend itself says; it may quote payloads, and shows only with ``[rambla] log_payloads = true``.
    ``status`` is that of the answer, where the backend speaks HTTP.
    """

    retryable: ClassVar[bool] = True
    retry_after_s: float | None = None
    status: int | None = None
    detail: str = ""

    def with_detail(self, detail: str) -> Self:
        """Record what the backend says, at most 1,000 characters of it on one line; return the error.

        >>> RejectedError("status 400").with_detail("no such field: 'nmae'").detail
        "no such field: 'nmae'"
        """
        line = " ".join(detail[: 2 * _DETAIL].split())
        self.detail = line if len(line) <= _DETAIL else f"{line[:_DETAIL]}..."
        return self


class PermanentError(DeliveryError):
    """No retry can mend it: the delivery is fatal at once."""

    retryable = False


class SerializationError(PermanentError):
    """The payload cannot be put on the wire; ``path`` leads to the value (``$.order.lines[3]``)."""

    def __init__(self, path: str, got: str) -> None:
        self.path, self.got = path, got
        super().__init__(f"cannot serialize the payload: at {path}: {got}")


class PayloadError(PermanentError):
    """The payload does not fit the schema of its channel; ``path`` leads to the value (``$.lines[3].sku``).

    ``publish`` raises it before anything is accepted. The text quotes no value of the payload.
    """

    def __init__(self, path: str, reason: str, where: str = "the channel") -> None:
        self.path, self.reason = path, reason
        super().__init__(f"the payload does not fit the schema of {where}: at {path}: {reason}")


class PayloadTooLargeError(PermanentError):
    """The payload is over the server's limit; sizes in bytes."""

    def __init__(self, size: int, limit: int, what: str = "the server's limit") -> None:
        self.size, self.limit = size, limit
        super().__init__(f"the payload has {size} bytes; {what} is {limit}")


class UnroutableError(DeliveryError):
    """The broker returned the message: nothing is bound where it was sent."""


class RejectedError(DeliveryError):
    """The backend understood, and refused this message for now."""


class UnavailableError(DeliveryError):
    """The backend cannot take messages now; the delivery waits without using up its ``retries``.

    ``scope`` names what is unavailable: ``"target"`` pauses the whole target; any other string pauses only
    the deliveries refused with the same one. ``retry_after_s`` is the wait in seconds that the backend asked
    for, None where it named none.
    """

    def __init__(
        self,
        reason: str = "the backend cannot take messages now",
        *,
        scope: str = "target",
        retry_after_s: float | None = None,
    ) -> None:
        self.reason, self.scope, self.retry_after_s = reason, scope, retry_after_s
        super().__init__(reason)


class AttemptTimeoutError(DeliveryError):
    """The attempt was given up after ``attempt_timeout_s``; whether it took effect is unknown."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"no answer within attempt_timeout_s = {timeout_s:g}{_MAY_HAVE_ARRIVED}")


class ExpiredError(DeliveryError):
    """``expires_s`` passed, or would have before the next attempt; ``last`` tells what kept the message."""

    retryable = False

    def __init__(self, expires_s: float, attempts: int, last: str = "") -> None:
        self.expires_s, self.attempts = expires_s, attempts
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"expires_s = {expires_s:g} was over after {tries}{_because(last)}")


class DroppedError(DeliveryError):
    """The message was dropped, and ``reason`` says why; ``last`` tells what had kept it until then."""

    retryable = False

    def __init__(self, reason: str, last: str = "") -> None:
        self.reason = reason
        super().__init__(f"dropped: {reason}{_because(last)}")


def _because(last: str) -> str:
    return f"; the last error: {last}" if last else ""


class ConnectionLostError(DeliveryError):
    """The connection is gone and nothing of the message was written: no attempt is spent."""


class AccessError(ConnectionLostError):
    """The server refused the credentials, or its certificate was refused: a person must act."""


class StartError(AccessError):
    """What a target needs did not start, an external server or the handler itself: a person must act."""

    def __init__(self, reason: str, hint: str) -> None:
        self.reason, self.hint = reason, hint
        super().__init__(f"{reason}; {hint}")


class UnknownOutcomeError(DeliveryError):
    """The message was written and no answer came; whether it took effect is unknown.

    With ``connection_lost`` (the default) the connection is gone, and with it the answers to everything in
    flight on it. Without it only this attempt has no answer: a request that timed out, a gateway's 502.

    ``together`` means that several messages shared the request, and any of them may be the cause: each is
    attempted again at once, with ``Delivery.alone``, and only one that has no answer alone has failed. After
    the loss of a connection that is so from the second loss on.
    """

    def __init__(
        self,
        reason: str = "no answer after the write",
        *,
        connection_lost: bool = True,
        together: bool = False,
    ) -> None:
        self.reason, self.connection_lost, self.together = reason, connection_lost, together
        warned = reason.endswith(_MAY_HAVE_ARRIVED)
        super().__init__(reason if warned else reason + _MAY_HAVE_ARRIVED)
