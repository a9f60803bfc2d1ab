"""The connection of a worker that sends many messages as events of one request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rambla_py.errors import PayloadTooLargeError, PermanentError, UnknownOutcomeError
from rambla_py.handlers._http.connection import WebConnection
from rambla_py.handlers._http.errors import NO_ANSWER, RefusedError, encoding_error
from rambla_py.handlers._http.exchange import Answer, Request
from rambla_py.handlers._http.request_pool import Group, lost, unsent
from rambla_py.handlers._http.result import HttpResult
from rambla_py.handlers._http.settings import LIMIT_NAME, WebSettings
from rambla_py.handlers._http.status_codes import StatusRules, refusal
from rambla_py.handlers._losses import Loss

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["BatchConnection", "Verdict"]

Verdict = Exception | Mapping[int, Exception]
"""What an answer means: one error for all events, or those of some by position; empty for a success."""


class BatchConnection(WebConnection):
    """Subclass it with ``_event`` and ``_batch``: a message as one event, and the envelope of many.

    ``_verdict`` says what a 2xx answer means for each event; by default that it is delivered. A batch that is
    refused for its content (``RefusedError.concerns_content``) is sent again in halves, so that a bad event
    fails alone.

    ``around`` is the number of bytes of a body without its events and what separates them; a ``redact``
    function removes secrets from what errors quote.
    """

    def __init__(
        self,
        settings: WebSettings,
        *,
        max_response_bytes: int,
        rules: StatusRules,
        around: int,
        redact: Callable[[str], str],
        link: Link,
        name: str,
        apart: int = 0,
    ) -> None:
        super().__init__(settings, max_response_bytes=max_response_bytes, link=link, name=name, apart=apart)
        self._rules, self._around, self._redact = rules, around, redact

    # -- what differs between servers ------------------------------------------------------------------

    def _event(self, delivery: Delivery) -> bytes:
        """Return a message as one event; an exception fails this message alone."""
        raise NotImplementedError

    def _batch(self, deliveries: Sequence[Delivery], events: Sequence[bytes]) -> Request:
        """Return the request with these events in their envelope; an exception fails all of them."""
        raise NotImplementedError

    def _verdict(self, deliveries: Sequence[Delivery], answer: Answer) -> Verdict:
        """Return what a 2xx answer means, event by event."""
        return {}

    def _exchange(self, request: Request) -> Answer:
        """Send a request and return the answer, whatever its status."""
        return self._send(request)

    # -- on the threads of the pool --------------------------------------------------------------------

    def _deliver(self, group: Group) -> Sequence[Loss]:
        losses: list[Loss] = []
        for part, events in self._parts(group):
            losses += unsent(part) if losses else self._deliver_part(part, events)
        return losses

    def _parts(self, group: Group) -> Iterator[tuple[list[Delivery], list[bytes]]]:
        """Yield deliveries with their events, as many as fit a body; what cannot be an event fails alone."""
        limit, event_of = self.settings.max_body_bytes, self._event
        part: list[Delivery] = []
        events: list[bytes] = []
        size = self._around
        for delivery in group:
            try:
                event = event_of(delivery)
                if limit is not None and len(event) > limit:
                    raise PayloadTooLargeError(len(event), limit, LIMIT_NAME)
            except Exception as error:  # a user's serializer may raise anything
                delivery.failed(encoding_error(error))
                continue
            if limit is not None:
                size += len(event) + 1
                if part and size > limit:
                    yield part, events
                    part, events, size = [], [], self._around + len(event) + 1
            part.append(delivery)
            events.append(event)
        if part:
            yield part, events

    def _deliver_part(self, part: list[Delivery], events: list[bytes]) -> list[Loss]:
        try:
            request = self._batch(part, events)
        except Exception as error:  # options and headers, which the whole part shares
            self._settle(part, encoding_error(error))
            return []
        try:
            answer = self._answer_to(part, request)
        except NO_ANSWER as error:
            return lost(part, error)
        verdict = answer if isinstance(answer, Exception) else self._verdict(part, answer)
        if len(part) > 1 and isinstance(verdict, RefusedError) and verdict.concerns_content:
            # One bad event must not fail the others: each half is sent by itself.
            middle = len(part) // 2
            losses = self._deliver_part(part[:middle], events[:middle])
            rest = part[middle:]
            return losses + (unsent(rest) if losses else self._deliver_part(rest, events[middle:]))
        if isinstance(verdict, UnknownOutcomeError):
            return lost(part, verdict)
        self._settle(part, verdict, None if isinstance(answer, Exception) else HttpResult.of(answer))
        return []

    def _answer_to(self, part: Sequence[Delivery], request: Request) -> Answer | Exception:
        """Return the answer to the request with these deliveries, as ``_answer`` does."""
        return self._answer(request)

    def _answer(self, request: Request) -> Answer | Exception:
        """Return the answer to a request, or its error if it is no success; raises ``NO_ANSWER``."""
        try:
            answer = self._exchange(request)
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

    def _settle(self, part: Sequence[Delivery], verdict: Verdict, result: HttpResult | None = None) -> None:
        if isinstance(verdict, Exception):
            for delivery in part:
                delivery.failed(verdict)
        elif not verdict:
            self.link.ok(part, result)
        else:
            for at, delivery in enumerate(part):
                if at in verdict:
                    delivery.failed(verdict[at])
                else:
                    delivery.ok(result)
