"""The live connection of an ``http`` worker: it sends deliveries, and settles them by the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

from rambla_py._internal.redaction import Redactor
from rambla_py.errors import ConnectionLostError, DeliveryError, PermanentError, UnknownOutcomeError
from rambla_py.handlers._http.batches import BatchConnection
from rambla_py.handlers._http.errors import NO_ANSWER, encoding_error
from rambla_py.handlers._http.exchange import Answer, Request
from rambla_py.handlers._http.groups import grouped
from rambla_py.handlers._http.request_pool import Group, lost
from rambla_py.handlers._http.result import HttpResult
from rambla_py.handlers._http.status_codes import FOLLOWED, StatusRules, refusal
from rambla_py.handlers._losses import Loss
from rambla_py.handlers.http.encode import RequestEncoder, secrets_of
from rambla_py.handlers.http.request_path import same_server
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


class HttpConnection(BatchConnection):
    """A client, and threads that keep several requests in flight."""

    settings: HttpSettings

    def __init__(self, settings: HttpSettings, options: HttpOptions, *, link: Link, name: str) -> None:
        super().__init__(
            settings,
            max_response_bytes=settings.max_response_bytes,
            rules=StatusRules(options.unavailable_statuses, options.access_statuses),
            around=_AROUND_EVENTS + sum(len(to_json(name)) for name in options.envelope_fields),
            redact=Redactor(secrets_of(settings)).text,
            link=link,
            name=name,
        )
        self._encoder = RequestEncoder(settings)

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries; each is settled later, from another thread."""
        if deliveries[0].options.body_format == "single":  # set per channel, so all have the same
            self._pool.submit([[delivery] for delivery in deliveries])
        else:
            self._pool.submit(*grouped(deliveries, with_headers=True))

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

    def _answers(self) -> bool:
        return self.settings.ping_method != "none" and not isinstance(self._pinged(), ConnectionLostError)

    def _deliver(self, group: Group) -> Sequence[Loss]:
        if group[0].options.body_format == "single":
            return self._deliver_one(group[0])
        return super()._deliver(group)

    def _deliver_one(self, delivery: Delivery) -> Sequence[Loss]:
        try:
            request = self._encoder.one(delivery)
        except Exception as error:  # a user's serializer may raise anything
            delivery.failed(encoding_error(error))
            return ()
        try:
            answer = self._answer(request)
        except NO_ANSWER as error:
            return lost([delivery], error)
        if isinstance(answer, Exception):
            delivery.failed(answer)
        else:
            delivery.ok(HttpResult.of(answer))
        return ()

    def _event(self, delivery: Delivery) -> bytes:
        return self._encoder.event(delivery)

    def _batch(self, deliveries: Sequence[Delivery], events: Sequence[bytes]) -> Request:
        return self._encoder.many(deliveries, events)

    def _answer_to(self, part: Sequence[Delivery], request: Request) -> Answer | Exception:
        """Send a batch in a span of its own, whose context goes with it: its messages have one each."""
        trace = self.link.trace(part) if len(part) > 1 else None
        if trace is None:
            return self._answer(request)
        try:
            answer = self._answer(self._encoder.traced(request, trace.headers))
        except BaseException as error:
            trace.ended(error)
            raise
        if isinstance(answer, Exception):
            trace.ended(answer)
        else:
            trace.ended(None, answer)
        return answer

    def _exchange(self, request: Request) -> Answer:
        """Send a request, and follow its redirects."""
        for _ in range(self.settings.redirects):
            answer = self._send(request)
            if answer.status not in FOLLOWED or "location" not in answer.headers:
                return answer
            request = self._redirected(request, answer)
        return self._send(request)

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
