"""The tracker: analytics of what a server does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, ParamSpec, Self, TypeVar

from rambla_py.analytics import events
from rambla_py.analytics.account import Account, TrackerAudit
from rambla_py.analytics.arguments import OwnFields
from rambla_py.analytics.connecting import Wanted, connect
from rambla_py.analytics.done import DONE, Done
from rambla_py.analytics.environment import Arguments, arguments_of
from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.lifetime import Lifetime
from rambla_py.analytics.listeners import Topic
from rambla_py.analytics.privacy import Scrubber
from rambla_py.analytics.recording import Consent, Kind, Recorder
from rambla_py.analytics.routing import Router
from rambla_py.analytics.sampling import FAILED, has_failed, shares
from rambla_py.analytics.settings import AnalyticsSettings
from rambla_py.analytics.system import SystemSampler
from rambla_py.analytics.tracked import tracked
from rambla_py.app import Rambla
from rambla_py.config import Config

__all__ = ["Tracker"]

P = ParamSpec("P")
R = TypeVar("R")

_INFINITY = float("inf")
_STATUSES = 1_000


class Tracker:
    """Tracks what a server does, on a channel.

    ``app_or_config`` is a URL (``sqlite:///f.db``, ``postgresql://``, ``clickhouse://``, ``jitsu+https://``,
    ``console:``, ``null:``), the path of a TOML file, a mapping or a ``Config``, for which the tracker makes,
    starts and owns an app; or a running ``Rambla``, which ``close`` leaves running. Without it, a TOML file
    in the usual places is used, and without one ``sqlite:///analytics.db``.

    ``batch_size`` (10) waiting events are sent at once, fewer after ``batch_timeout_s`` (5). ``sample`` (1.0)
    is the share of the events to keep, for all or by action. Each argument has a variable in the environment,
    such as ``RAMBLA_ANALYTICS_URL`` or ``RAMBLA_ANALYTICS_BATCH_SIZE``; the argument wins. Making a tracker
    connects to nothing. It raises ``ConfigError``, ``UnknownChannelError`` and ``AnalyticsError``.

    The ``track_*`` methods never wait and never raise, from any thread and inside an event loop; further
    fields are kept. With ``debug=True`` they raise ``AnalyticsError`` for a wrong field, and each event is
    logged.

    >>> with Tracker("null:") as tracker:
    ...     _ = tracker.track_payment("charge", 99.99, "USD", True, order_id="o-17")
    ...     tracker.flush(), tracker.audit().delivered
    (True, 1)
    """

    def __init__(
        self,
        app_or_config: Rambla | Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        write_key: str | None = None,
        channel: str = "analytics",
        enabled: bool | None = None,
        debug: bool | None = None,
        batch_size: int | None = None,
        batch_timeout_s: float | None = None,
        sample: float | Mapping[str, float] | None = None,
        on_error: Callable[[BaseException], Any] | None = None,
        on_drop: Callable[[str, int], Any] | None = None,
        consent: Consent | None = None,
    ) -> None:
        given = Arguments(write_key, enabled, debug, batch_size, batch_timeout_s, sample)
        chosen = arguments_of(given, os.environ)
        self.enabled, self._debug = chosen.enabled is not False, bool(chosen.debug)
        self.settings = AnalyticsSettings()
        self._account = Account((), lambda reason, number, error: None)
        self._life: Lifetime | None = None
        self._request = Kind(events.ApiRequest, 1.0)
        self._own, self._system = OwnFields(Scrubber(self.settings.privacy)), SystemSampler()
        if not self.enabled:
            return
        wanted = Wanted(channel, chosen.write_key, chosen.batch_size, chosen.batch_timeout_s)
        connected = connect(app_or_config, wanted, os.environ.get("RAMBLA_ANALYTICS_URL") or None)
        self.settings = settings = connected.settings
        self._share = shares(settings, chosen.sample)
        channels = [channel, *(rule.channel for rule in settings.rules if rule.channel)]
        self._life = life = Lifetime(connected, channels)
        self._account = life.account
        router = Router(connected.app, channel, settings.rules)
        router.check()
        self._own = OwnFields(Scrubber(settings.privacy))
        self._recorder = recorder = Recorder(
            settings, router, life.account, self._own, consent=consent, debug=self._debug
        )
        life.resets.extend((recorder.reset, self._system.reset))
        self._kinds = {event: Kind(event, self._share(event.ACTION)) for event in events.EVENTS}
        self._request = self._kinds[events.ApiRequest]
        for topic, listener in (("error", on_error), ("drop", on_drop)):
            if listener is not None:
                life.listeners.add(topic, listener)  # type: ignore[arg-type]  # the two topics
        life.start()

    def __repr__(self) -> str:
        state = "disabled" if self._life is None else ("closed" if self._life.closed else "open")
        return f"<Tracker {state}, {self.audit()}>"

    # -- events ---------------------------------------------------------------------------------------

    def track_api_request(
        self,
        method: str,
        path: str,
        status_code: int,
        duration_ms: float,
        *,
        user_agent: str | None = None,
        ip_address: str | None = None,
        **fields: Any,
    ) -> Done:
        """Track a request that was answered; ``path`` is a template, as ``/items/{id}``."""
        return self._track_request(
            self._request, method, path, status_code, duration_ms, user_agent, ip_address, fields
        )

    def _track_request(
        self,
        kind: Kind,
        method: str,
        path: str,
        status_code: int,
        duration_ms: float,
        user_agent: str | None,
        ip_address: str | None,
        fields: dict[str, Any],
    ) -> Done:
        """Track a request; middleware has a ``kind`` of its own, with its share."""
        if not self.enabled:
            return DONE
        account = self._account
        next(account.tracked.numbers)
        try:
            if (
                type(status_code) is not int
                or type(duration_ms) is not float
                or not (0 <= status_code < _STATUSES and 0.0 <= duration_ms < _INFINITY)
            ):
                status_code, duration_ms = self._own.numbers(status_code, duration_ms)
            rate = 1.0
            if kind.share < 1.0 and status_code < FAILED and not has_failed(fields):
                if self._recorder.leaves_out(kind.share):
                    return DONE
                rate = kind.share
            texts = self._own.api_request(method, path, user_agent, ip_address)
            self._recorder.record_request(kind, texts, status_code, duration_ms, fields, rate)
        except RecursionError:
            next(account.overflowed.numbers)
        except Exception as error:
            self._refuse(error)
        return DONE

    def track_api_error(
        self,
        error: BaseException | str,
        *,
        method: str | None = None,
        path: str | None = None,
        status_code: int = 500,
        **fields: Any,
    ) -> Done:
        """Track an error; its type and its scrubbed text are kept, no traceback."""
        return self._track(events.ApiError, self._own.api_error, (error, method, path, status_code), fields)

    def track_db_query(
        self, query: str, duration_ms: float, success: bool, *, dialect: str | None = None, **fields: Any
    ) -> Done:
        """Track a statement, without the values in it; ``dialect`` is sqlglot's name for its SQL."""
        return self._track(
            events.DatabaseQuery, self._own.db_query, (query, duration_ms, success, dialect), fields
        )

    def track_db_connection(self, action: str, duration_ms: float, success: bool, **fields: Any) -> Done:
        """Track a connection to a database: ``"connect"``, ``"close"``."""
        return self._track(
            events.DatabaseConnection, self._own.db_connection, (action, duration_ms, success), fields
        )

    def track_user_auth(self, action: str, user_id: str | None, success: bool, **fields: Any) -> Done:
        """Track an authentication: ``"login"``, ``"logout"``; ``user_id`` is never an e-mail address."""
        return self._track(events.UserAuthentication, self._own.user_auth, (action, user_id, success), fields)

    def track_payment(
        self, action: str, amount: Decimal | float | str, currency: str, success: bool, **fields: Any
    ) -> Done:
        """Track a payment; ``amount`` is exact, ``currency`` a code of ISO 4217."""
        return self._track(events.Payment, self._own.payment, (action, amount, currency, success), fields)

    def track_email_send(self, to: str, template: str, success: bool, **fields: Any) -> Done:
        """Track a mail; of the address ``to``, the domain and a hash are kept."""
        return self._track(events.EmailSend, self._own.email_send, (to, template, success), fields)

    def track_file_operation(
        self, operation: str, file_type: str, file_size: int, success: bool, **fields: Any
    ) -> Done:
        """Track an operation on a file of ``file_size`` bytes."""
        return self._track(
            events.FileOperation, self._own.file_operation, (operation, file_type, file_size, success), fields
        )

    def track_external_api_call(
        self, service: str, endpoint: str, duration_ms: float, success: bool, **fields: Any
    ) -> Done:
        """Track a call to another service; ``endpoint`` is a URL or a path."""
        return self._track(
            events.ExternalApiCall,
            self._own.external_api_call,
            (service, endpoint, duration_ms, success),
            fields,
        )

    def track_system_performance(self, **fields: Any) -> Done:
        """Track what the process and its machine use now."""
        return self._track(events.SystemPerformance, self._system.sample, (), fields)

    def track(
        self, event: str, *, event_category: str = "custom", event_action: str = "custom", **fields: Any
    ) -> Done:
        """Track any other event; all fields go to ``properties``."""
        if not self.enabled:
            return DONE
        next(self._account.tracked.numbers)
        try:
            names = self._own.names(event, event_category, event_action)
            share, rate = self._share(names[2]), 1.0
            if share < 1.0 and not has_failed(fields):
                if self._recorder.leaves_out(share):
                    return DONE
                rate = share
            self._recorder.record_custom(*names, fields, rate)
        except RecursionError:
            next(self._account.overflowed.numbers)
        except Exception as error:
            self._refuse(error)
        return DONE

    def _track(
        self,
        event: type[events.Event],
        make: Callable[..., dict[str, Any]],
        args: Any,
        fields: dict[str, Any],
    ) -> Done:
        if not self.enabled:
            return DONE
        account = self._account
        next(account.tracked.numbers)
        try:
            kind, own, rate = self._kinds[event], make(*args), 1.0
            if kind.share < 1.0 and not has_failed(own) and not has_failed(fields):
                if self._recorder.leaves_out(kind.share):
                    return DONE
                rate = kind.share
            self._recorder.record(kind, own, fields, rate)
        except RecursionError:
            next(account.overflowed.numbers)
        except Exception as error:
            self._refuse(error)
        return DONE

    def _refuse(self, error: Exception) -> None:
        """Count an event that is not published; raise what is wrong with it if debugging."""
        wrong = isinstance(error, AnalyticsError)
        what = error.field if isinstance(error, AnalyticsError) and error.field else type(error).__name__
        self._account.refuse(f"refused: {what}", error)
        if wrong and self._debug:
            raise error

    @property
    def _exit_timeout_s(self) -> float:
        return 0.0 if self._life is None else self._life.app.config.rambla.exit_timeout_s

    # -- what events have in common -------------------------------------------------------------------

    @contextmanager
    def context(self, **fields: Any) -> Iterator[None]:
        """Give all events inside the ``with`` these fields, also in tasks and threads that copy the context.

        ``user_id`` is a column; ``request_id``, ``trace_id``, ``service``, ``environment`` and ``release``
        are in ``context``; others are further fields.
        """
        token = None
        if self.enabled:
            try:
                token = self._recorder.enter(fields)
            except Exception as error:
                self._account.report(error)
        try:
            yield
        finally:
            if token is not None:
                self._recorder.leave(token)

    def tracked(self, event: str, **fields: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a decorator that tracks the calls of a function, a coroutine or a generator.

        Each call is a custom event with ``duration_ms``, ``success`` and, if it raised, ``error_type``. The
        exception passes.
        """

        def finish(measured: Mapping[str, Any]) -> None:
            self.track(event, **{**fields, **measured})

        return lambda function: tracked(function, finish)

    def sample_system(self, every_s: float = 60.0) -> Callable[[], None]:
        """Track what the process uses every ``every_s`` seconds, also in forked children; return its end.

        Raises ``AnalyticsError`` without psutil, and for a time that is not above 0. It ends with the app.
        """
        if not 0 < every_s < _INFINITY:
            raise AnalyticsError("expected seconds above 0", field="every_s")
        if self._life is None:
            return lambda: None
        self._system.prepare()
        due = time.monotonic() + every_s

        def sample(now: float) -> float:
            nonlocal due
            if now >= due:
                self.track_system_performance()
                due = now + every_s
            return due

        return self._life.repeat(sample, due)

    # -- listeners, account, end ----------------------------------------------------------------------

    def on(self, topic: Topic, listener: Callable[..., Any]) -> Callable[[], None]:
        """Call a listener from a thread of the app, once a second and reason; return a function that ends it.

        ``"error"``: ``listener(error)``. ``"drop"``: ``listener(reason, count)``. Be quick. Raises
        ``AnalyticsError`` for another topic.
        """
        return (lambda: None) if self._life is None else self._life.listeners.add(topic, listener)

    def delete_user(self, user_id: str) -> dict[str, int]:
        """Delete the events of a user from the tracker's SQL databases; return how many each table had.

        Delivers what waits first, and blocks until all are deleted. What further fields tell about the user
        stays. Raises ``SqlError``, and ``AnalyticsError`` for a tracker without such a database, for an id
        that events hold masked, and if events still wait: nothing is deleted then.
        """
        if self._life is None:
            return {}
        return self._life.delete_user(self._own.deletable_user(user_id))

    def audit(self) -> TrackerAudit:
        """Return the account of this process: exact after ``flush`` and ``close``."""
        return self._account.audit()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all events so far have been delivered or lost; return whether they have.

        Without a time it returns False once none has ended for ``[rambla] result_timeout_s`` seconds.
        """
        return True if self._life is None else self._life.flush(timeout_s)

    async def aflush(self, timeout_s: float | None = None) -> bool:
        """Wait as ``flush`` does, without blocking the event loop."""
        return True if self._life is None else await self._life.aflush(timeout_s)

    def close(self, timeout_s: float | None = 5.0) -> None:
        """Deliver within ``timeout_s`` seconds, and stop the app that the tracker owns."""
        if self._life is not None:
            self._recorder.closed = True  # first: what came during the flush would not be counted any more
            self._life.close(timeout_s)

    async def aclose(self, timeout_s: float | None = 5.0) -> None:
        """Close as ``close`` does, without blocking the event loop."""
        if self._life is not None:
            self._recorder.closed = True
            await self._life.aclose(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
