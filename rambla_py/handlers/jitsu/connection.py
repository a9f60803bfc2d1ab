"""The live connection of a ``jitsu`` worker: it sends batches of events, and settles them by the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rambla_py._internal.redaction import Redactor
from rambla_py.errors import AccessError, ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.handlers._http.batches import BatchConnection, Verdict
from rambla_py.handlers._http.connection import APART
from rambla_py.handlers._http.exchange import Answer, Request
from rambla_py.handlers._http.groups import grouped
from rambla_py.handlers._http.status_codes import StatusRules, refusal
from rambla_py.handlers.jitsu.encode import EventEncoder, message_id
from rambla_py.handlers.jitsu.errors import verdict
from rambla_py.handlers.jitsu.settings import JitsuOptions, JitsuSettings

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link, Preflight

__all__ = ["JitsuConnection"]

_ANSWER_BYTES = 1_000_000
"""An answer may name each event of a batch with its reason."""


class JitsuConnection(BatchConnection):
    """A client, and threads for several requests at a time."""

    settings: JitsuSettings

    def __init__(self, settings: JitsuSettings, options: JitsuOptions, *, link: Link, name: str) -> None:
        self._encoder = EventEncoder(settings, options)
        super().__init__(
            settings,
            max_response_bytes=_ANSWER_BYTES,
            rules=StatusRules(),
            around=self._encoder.around,
            redact=Redactor([settings.write_key.reveal()]).text,
            link=link,
            name=name,
            apart=APART,
        )
        self._where = f"jitsu at {self.client.where}"

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries; each is settled later, from another thread."""
        self._pool.submit(*grouped(deliveries, with_headers=False))

    def check(self) -> None:
        """Raise if the server does not answer, or refuses the write key; any other answer will do."""
        for error in (self._health_error(), self._key_error()):
            if isinstance(error, ConnectionLostError | AccessError):
                raise error

    def ping(self) -> None:
        """Raise also if the server answers that it is out of order."""
        error = self._health_error()
        if error is not None and (error.retryable or isinstance(error, ConnectionLostError)):
            raise error

    def preflight(self, report: Preflight) -> None:
        """Report why an empty batch is refused."""
        error = self._key_error()
        if error is not None:
            report.problem(str(error), hint="check url, path and write_key (keyId:keySecret of a server key)")

    def _health_error(self) -> DeliveryError | None:
        return self._error_of(self._encoder.health())

    def _key_error(self) -> DeliveryError | None:
        """Send an empty batch, for which the server looks up the site of the write key."""
        request = self._encoder.empty()
        return self._error_of(request, lambda answer: verdict(answer, (), self._where))

    def _error_of(
        self, request: Request, judge: Callable[[Answer], Verdict] = lambda answer: {}
    ) -> DeliveryError | None:
        try:
            answer = self.client.send(request)
        except UnknownOutcomeError as error:  # it delivers nothing
            raise ConnectionLostError(str(error)) from error
        what = f"{request.method} {self.client.where}"
        refused = refusal(answer, what, self._rules, redact=self._redact)
        if refused is not None:
            return refused
        judged = judge(answer)
        return judged if isinstance(judged, DeliveryError) else None

    # -- on the threads of the pool --------------------------------------------------------------------

    def _answers(self) -> bool:
        return not isinstance(self._health_error(), ConnectionLostError)

    def _event(self, delivery: Delivery) -> bytes:
        return self._encoder.event(delivery)

    def _batch(self, deliveries: Sequence[Delivery], events: Sequence[bytes]) -> Request:
        return self._encoder.batch(events)

    def _verdict(self, deliveries: Sequence[Delivery], answer: Answer) -> Verdict:
        return verdict(answer, [message_id(delivery.id) for delivery in deliveries], self._where)
