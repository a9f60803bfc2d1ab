"""The live connection of an ``http`` worker: it sends deliveries, and settles them by the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

from rambla_py._internal.redaction import Redactor
from rambla_py.errors import ConnectionLostError, DeliveryError, PermanentError, UnknownOutcomeError
from rambla_py.handlers._http.client import Answer, Request
from rambla_py.handlers._http.connection import WebConnection
from rambla_py.handlers._http.errors import encoding_error
from rambla_py.handlers._http.groups import grouped
from rambla_py.handlers._http.request_pool import Group, lost, unsent
from rambla_py.handlers._http.status_codes import FOLLOWED, StatusRules, refusal
from rambla_py.handlers._losses import Loss
from rambla_py.handlers.http.encode import RequestEncoder, secrets_of
from rambla_py.handlers.http.errors import RefusedError
from rambla_py.handlers.http.request_path import same_server
from rambla_py.handlers.http.result import HttpResult
from rambla_py.handlers.http.settings import HttpOptions, HttpSettings
from rambla_py.serialization.encoding import to_json

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["HttpConnection"]

_AROUND_EVENTS = 64
"""Bytes of a batch's body without its events and the names of its fields."""

_PING_UNSUPPORTED = frozenset({500, 501})
"""What servers answer that do not support HEAD; they answer, which is all that a ping asks."""

_NO_ANSWER = (ConnectionLostError, UnknownOutcomeError)


class HttpConnection(WebConnection):
    """A client, and threads that keep several requests in flight."""

    settings: HttpSettings

    def __init__(self, settings: HttpSettings, options: HttpOptions, *, link: Link, name: str) -> None:
        super().__init__(settings, max_response_bytes=settings.max_response_bytes, link=link, name=name)
        self._encoder = RequestEncoder(settings)
        self._redact = Redactor(secrets_of(settings)).text
        self._around = _AROUND_EVENTS + sum(len(to_json(name)) for name in options.envelope_fields)
        self._rules = StatusRules(options.unavailable_statuses, options.access_statuses)

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries; each is settled later, from another thread."""
        self._pool.submit(_groups(deliveries))

    def check(self) -> None:
        """Raise if the server does not answer, or refuses the credentials."""
        error = self._pinged()
        if isinstance(error, ConnectionLostError):
            raise error

    def ping(self) -> None:
        """Raise also if the server answers that it is out of order."""
        error = self._pinged()
        if error is not None and (error.retryable or isinstance(error, ConnectionLostError)):
            raise error

    # -- on the threads of the pool --------------------------------------------------------------------

    def _deliver(self, group: Group) -> Sequence[Loss]:
        if group[0].options.body_format == "single":
            return self._deliver_one(group[0])
        losses: list[Loss] = []
        for part, events in self._parts(group):
            losses += unsent(part) if losses else self._deliver_part(part, events)
        return losses

    def _deliver_one(self, delivery: Delivery) -> Sequence[Loss]:
        try:
            request = self._encoder.one(delivery)
        except Exception as error:  # a user's serializer may raise anything
            delivery.failed(encoding_error(error))
            return ()
        try:
            _settle([delivery], self._answer(request))
        except _NO_ANSWER as error:
            return lost([delivery], error)
        return ()

    def _parts(self, group: Group) -> Iterator[tuple[list[Delivery], list[bytes]]]:
        """Yield deliveries with their events, as many as fit a body; what cannot be an event fails alone."""
        limit, event_of = self.settings.max_body_bytes, self._encoder.event
        part: list[Delivery] = []
        events: list[bytes] = []
        size = self._around
        for delivery in group:
            try:
                event = event_of(delivery)
            except Exception as error:  # a user's serializer may raise anything
                delivery.failed(encoding_error(error))
                continue
            if part and limit is not None and size + len(event) + 1 > limit:
                yield part, events
                part, events, size = [], [], self._around
            part.append(delivery)
            events.append(event)
            size += len(event) + 1
        if part:
            yield part, events

    def _deliver_part(self, part: list[Delivery], events: list[bytes]) -> list[Loss]:
        try:
            request = self._encoder.many(part, events)
        except Exception as error:  # options and headers, which the whole part shares
            _settle(part, encoding_error(error))
            return []
        try:
            answer = self._answer(request)
        except _NO_ANSWER as error:
            return lost(part, error)
        if len(part) > 1 and isinstance(answer, RefusedError) and answer.concerns_content:
            # One bad event must not fail the others: each half is sent by itself.
            middle = len(part) // 2
            losses = self._deliver_part(part[:middle], events[:middle])
            rest = part[middle:]
            return losses + (unsent(rest) if losses else self._deliver_part(rest, events[middle:]))
        _settle(part, answer)
        return []

    def _answer(self, request: Request) -> Answer | Exception:
        """Return the answer to a request, or its error if it is no success; raises ``_NO_ANSWER``."""
        for _ in range(self.settings.redirects + 1):
            try:
                answer = self._send(request)
                if answer.status not in FOLLOWED or "location" not in answer.headers:
                    break
                if self.settings.redirects:
                    request = self._redirected(request, answer)
            except PermanentError as error:
                return error
        if 200 <= answer.status < 300:
            return answer
        path = request.target.partition("?")[0]
        rules = self._rules._replace(scope=self.client.endpoint._replace(path=path).scope)
        refused = refusal(answer, f"{request.method} {self.client.where}", rules, redact=self._redact)
        assert refused is not None
        if type(refused) is PermanentError:
            return RefusedError(str(refused), answer.status).with_detail(refused.detail)
        return refused

    def _redirected(self, request: Request, answer: Answer) -> Request:
        base, what = self.client.endpoint, "the server's redirect"
        try:
            place = urldefrag(urljoin(base.origin + request.target, answer.headers["location"])).url
        except ValueError:
            raise PermanentError(f"{what}: a URL that cannot be read") from None
        path, query = same_server(base, place, what)
        return self._encoder.redirected(request, f"{path}?{query}" if query else path)

    def _pinged(self) -> DeliveryError | None:
        if self.settings.ping_method == "none":
            return None
        request = self._encoder.ping()
        try:
            answer = self.client.send(request)
        except UnknownOutcomeError as error:  # a ping delivers nothing
            raise ConnectionLostError(str(error)) from error
        if answer.status in _PING_UNSUPPORTED:
            return None
        what = f"the ping ({request.method}, by ping_method) of {self.client.where}"
        return refusal(answer, what, self._rules, redact=self._redact)


def _settle(part: Sequence[Delivery], answer: Answer | Exception) -> None:
    if isinstance(answer, Exception):
        for delivery in part:
            delivery.failed(answer)
        return
    result = HttpResult(answer.status, answer.headers, answer.body, not answer.whole)
    for delivery in part:
        delivery.ok(result)


def _groups(deliveries: Sequence[Delivery]) -> list[list[Delivery]]:
    """Return what may share a request; the format is set per channel, so all have the same."""
    if deliveries[0].options.body_format == "single":
        return [[delivery] for delivery in deliveries]
    return grouped(deliveries, with_headers=True)
