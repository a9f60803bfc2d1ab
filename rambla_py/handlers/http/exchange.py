"""This module carries deliveries to the server and settles them by what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

from rambla_py.errors import ConnectionLostError, DeliveryError, PermanentError, UnknownOutcomeError
from rambla_py.handlers._http.answers import FOLLOWED, refusal
from rambla_py.handlers._http.carrier import Carrier
from rambla_py.handlers._http.client import Answer, Request
from rambla_py.handlers._http.groups import alike
from rambla_py.handlers._http.lanes import Group, Loss, lost, unsent
from rambla_py.handlers.http.requests import Requests, secrets_of
from rambla_py.handlers.http.result import HttpResult
from rambla_py.handlers.http.settings import HttpConnection
from rambla_py.handlers.http.target import same_server
from rambla_py.redaction import Redactor

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["Exchange"]

_AROUND_EVENTS = 64
"""Bytes of an envelope without its events."""

# Of a batch that is refused with one of these, a part may pass: the content was judged, not the request.
_DIVISIBLE = frozenset({400, 409, 413, 422})
_PUZZLED = frozenset({500, 501})
"""What servers answer that do not know HEAD; they are there, which was the question."""


class Exchange(Carrier):
    """The connection of one worker: a client, and lanes that keep several requests in flight."""

    settings: HttpConnection

    def __init__(self, settings: HttpConnection, *, link: Link, name: str) -> None:
        super().__init__(settings, max_response_bytes=settings.max_response_bytes, link=link, name=name)
        self._requests = Requests(settings)
        self._redact = Redactor(secrets_of(settings)).text
        self._access = frozenset(settings.access_statuses)

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries; each is settled later, from another thread."""
        self._lanes.submit(_groups(deliveries))

    def check(self) -> None:
        """Ask whether the server answers and takes our credentials; raises when it does not."""
        error = self._pinged()
        if isinstance(error, ConnectionLostError):
            raise error

    def ping(self) -> None:
        """Raise also when the server says that it is out of order."""
        error = self._pinged()
        if error is not None and (error.retryable or isinstance(error, ConnectionLostError)):
            raise error

    # -- on the lanes ----------------------------------------------------------------------------------

    def _carry(self, group: Group) -> Sequence[Loss]:
        if group[0].options.body_format == "single":
            return self._carry_one(group[0])
        losses: list[Loss] = []
        for part, events in self._parts(group):
            losses += unsent(part) if losses else self._carry_part(part, events)
        return losses

    def _carry_one(self, delivery: Delivery) -> Sequence[Loss]:
        try:
            request = self._requests.one(delivery)
        except Exception as error:  # a serializer of the user's may raise anything
            delivery.failed(error)
            return ()
        answer = self._answer(request)
        if isinstance(answer, Answer):
            delivery.ok(_result(answer))
            return ()
        return _failed([delivery], answer)

    def _parts(self, group: Group) -> Iterator[tuple[list[Delivery], list[bytes]]]:
        """Yield deliveries with their events, as many as fit a body; what cannot be an event fails alone."""
        limit = self.settings.max_body_bytes
        part: list[Delivery] = []
        events: list[bytes] = []
        size = _AROUND_EVENTS
        for delivery in group:
            try:
                event = self._requests.event(delivery)
            except Exception as error:  # a serializer of the user's may raise anything
                delivery.failed(error)
                continue
            if part and limit is not None and size + len(event) + 1 > limit:
                yield part, events
                part, events, size = [], [], _AROUND_EVENTS
            part.append(delivery)
            events.append(event)
            size += len(event) + 1
        if part:
            yield part, events

    def _carry_part(self, part: list[Delivery], events: list[bytes]) -> list[Loss]:
        try:
            request = self._requests.many(part, events)
        except Exception as error:  # options and headers, which the part has in common
            return _failed(part, error)
        answer = self._answer(request)
        if isinstance(answer, Answer):
            result = _result(answer)
            for delivery in part:
                delivery.ok(result)
            return []
        if len(part) > 1 and isinstance(answer, RefusedError) and answer.status in _DIVISIBLE:
            # One bad event must not take the others with it: the server is asked about each half.
            middle = len(part) // 2
            losses = self._carry_part(part[:middle], events[:middle])
            rest = part[middle:]
            return losses + (unsent(rest) if losses else self._carry_part(rest, events[middle:]))
        return _failed(part, answer)

    def _answer(self, request: Request) -> Answer | Exception:
        """Return the answer of a success, or the error that anything else stands for."""
        for _ in range(self.settings.redirects + 1):
            try:
                answer = self.client.send(request)
                if answer.status not in FOLLOWED or "location" not in answer.headers:
                    break
                if self.settings.redirects:
                    request = self._moved(request, answer)
            except DeliveryError as error:
                return error
        what = f"{request.method} {self.client.where}"
        refused = refusal(answer, what, access_statuses=self._access, redact=self._redact)
        if refused is None:
            return answer
        return RefusedError(str(refused), answer.status) if type(refused) is PermanentError else refused

    def _moved(self, request: Request, answer: Answer) -> Request:
        base, what = self.client.endpoint, "the server's redirect"
        try:
            place = urldefrag(urljoin(base.origin + request.target, answer.headers["location"])).url
        except ValueError as error:
            raise PermanentError(f"{what}: {error}") from None
        path, query = same_server(base, place, what)
        return self._requests.redirected(request, f"{path}?{query}" if query else path)

    def _pinged(self) -> DeliveryError | None:
        if self.settings.ping_method == "none":
            return None
        request = self._requests.ping()
        try:
            answer = self.client.send(request)
        except UnknownOutcomeError as error:  # nothing was to be delivered
            raise ConnectionLostError(str(error)) from error
        if answer.status in _PUZZLED:
            return None
        what = f"the ping ({request.method}, by ping_method) of {self.client.where}"
        return refusal(answer, what, access_statuses=self._access, redact=self._redact)


class RefusedError(PermanentError):
    """A permanent error that remembers the status."""

    def __init__(self, text: str, status: int) -> None:
        self.status = status
        super().__init__(text)


def _failed(part: Sequence[Delivery], error: Exception) -> list[Loss]:
    """Settle a part as failed; a loss is handed back instead."""
    if isinstance(error, ConnectionLostError | UnknownOutcomeError):
        return lost(part, error)
    for delivery in part:
        delivery.failed(error)
    return []


def _result(answer: Answer) -> HttpResult:
    return HttpResult(answer.status, answer.headers, answer.body, not answer.whole)


def _groups(deliveries: Sequence[Delivery]) -> list[list[Delivery]]:
    """Return what may share a request; the format is set per channel, so it is that of all."""
    if deliveries[0].options.body_format == "single":
        return [[delivery] for delivery in deliveries]
    return alike(deliveries, with_headers=True)
