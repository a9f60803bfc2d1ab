"""Recording of events: fields checked and scrubbed, the event assembled, counted and published."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from random import random
from typing import Any, NamedTuple

from rambla_py._internal.message_ids import new_id
from rambla_py.analytics.account import Account
from rambla_py.analytics.arguments import OwnFields, checked
from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.event_time import EventClock, time_text
from rambla_py.analytics.events import Event
from rambla_py.analytics.routing import Route, Router
from rambla_py.analytics.settings import AnalyticsSettings
from rambla_py.errors import MailboxFullError, NotRunningError

__all__ = ["Consent", "Kind", "Recorder", "Scope"]

log = logging.getLogger("rambla_py.analytics")

Consent = Callable[[dict[str, Any]], bool]

_CONTEXT = frozenset({"service", "environment", "release", "request_id", "trace_id"})
_NO_FIELDS: dict[str, Any] = {}


class Kind:
    """What the events of one struct have in common for a tracker; the route is found with the first one."""

    __slots__ = ("action", "category", "event", "route", "share")

    def __init__(self, event: type[Event], share: float) -> None:
        self.event, self.category, self.action = event.EVENT, event.CATEGORY, event.ACTION
        self.share = share
        self.route: Route | None = None


class Scope(NamedTuple):
    """What all events inside a ``with tracker.context(...)`` have."""

    user_id: str | None
    context: dict[str, Any]
    fields: dict[str, Any]


class Recorder:
    """Records the events of one tracker."""

    def __init__(
        self,
        settings: AnalyticsSettings,
        router: Router,
        account: Account,
        own: OwnFields,
        *,
        consent: Consent | None,
        debug: bool,
    ) -> None:
        self._router, self._account, self._own = router, account, own
        self._scrubber = scrubber = own.scrubber
        self._consent, self._debug = consent, debug
        self._looks_at_events = debug or consent is not None
        self._now = EventClock().now
        self._scope: ContextVar[Scope | None] = ContextVar("rambla_analytics", default=None)
        self._outermost = Scope(None, _process_context(settings), _NO_FIELDS)
        self.closed = False
        self._cleaners: dict[str, Callable[[Any], Any]] = {
            "ip_address": scrubber.ip,
            "query_text": lambda text: scrubber.query(text, None).text,
            "api_endpoint": scrubber.url,
        }

    def reset(self) -> None:
        """Write the id of a forked child into its context, and into one that the fork was inside of."""
        for scope in (self._outermost, self._scope.get()):
            if scope is not None:
                scope.context["process_id"] = os.getpid()

    # -- context --------------------------------------------------------------------------------------

    def enter(self, fields: dict[str, Any]) -> Any:
        """Let events from now on have these fields, in this context; return what ``leave`` takes."""
        return self._scope.set(self._inner(self._scope.get() or self._outermost, fields))

    def leave(self, token: Any) -> None:
        """End what ``enter`` began."""
        try:
            self._scope.reset(token)
        except ValueError:  # a generator that is closed in another context than it was opened in
            self._scope.set(token.old_value if token.old_value is not token.MISSING else None)

    def _inner(self, outer: Scope, fields: dict[str, Any]) -> Scope:
        context, user_id = outer.context, outer.user_id
        further = dict(outer.fields)
        for name, value in fields.items():
            try:
                if name == "user_id":
                    user_id = None  # not the outer one's, if this one is wrong
                    user_id = self._own.user(value)
                elif name in _CONTEXT:
                    context = {**context, name: self._scrubber.text(checked(value, name))}
                else:
                    further[name] = value
            except AnalyticsError as error:
                self._account.report(error)
        if context is not outer.context and context.get("process_id") != os.getpid():
            context["process_id"] = os.getpid()
        return Scope(user_id, context, further)

    # -- events ---------------------------------------------------------------------------------------

    def leaves_out(self, share: float) -> bool:
        """Return whether the sample leaves this event out, and count it if so."""
        if random() < share:
            return False
        next(self._account.sampled.numbers)
        return True

    def record_request(
        self,
        kind: Kind,
        texts: tuple[str, str, str | None, str | None],
        status_code: int,
        duration_ms: float,
        fields: dict[str, Any],
        rate: float,
    ) -> None:
        """Record a request: as ``record`` does, with one dictionary for it and few calls."""
        method, path, user_agent, ip_address = texts
        route, scope = kind.route, self._scope.get() or self._outermost
        if (
            route is None
            or fields
            or scope.fields
            or self._looks_at_events
            or route.deliveries != 1
            or self.closed
        ):
            own = {
                "method": method,
                "path": path,
                "status_code": status_code,
                "duration_ms": duration_ms,
                "user_agent": user_agent,
                "ip_address": ip_address,
            }
            self.record(kind, own, fields, rate)
            return
        event = {
            "event": kind.event,
            "event_category": kind.category,
            "event_action": kind.action,
            "timestamp": self._now(),
            "method": method,
            "path": path,
            "status_code": status_code,
            "duration_ms": duration_ms,
            "user_agent": user_agent,
            "ip_address": ip_address,
            "user_id": scope.user_id,
            "sample_rate": rate,
            "context": scope.context,
            "properties": _NO_FIELDS,
        }
        account = self._account
        next(account.accepted.numbers)
        try:
            route.channels[0]._publish_now(event)
        except RecursionError:  # no call here: there may be no room for one on the stack
            account.doubtful[id(event)] = event
        except Exception as error:
            account.lose(_reason(error), error)

    def record(self, kind: Kind, own: dict[str, Any], fields: dict[str, Any], rate: float) -> None:
        """Record an event of a struct; ``own`` are its own fields, checked and scrubbed."""
        route = kind.route
        if route is None:
            route = kind.route = self._router.route(kind.category, kind.action)
        scope = self._scope.get() or self._outermost
        if fields or scope.fields or self._looks_at_events or "user_id" in own:
            self._send(route, scope, (kind.event, kind.category, kind.action), own, fields, rate)
            return
        event = {
            "event": kind.event,
            "event_category": kind.category,
            "event_action": kind.action,
            "timestamp": self._now(),
            **own,
            "user_id": scope.user_id,
            "sample_rate": rate,
            "context": scope.context,
            "properties": _NO_FIELDS,
        }
        self._publish(route, event)

    def record_custom(
        self, event: str, category: str, action: str, fields: dict[str, Any], rate: float
    ) -> None:
        """Record an event without fields of its own."""
        scope = self._scope.get() or self._outermost
        self._send(self._router.route(category, action), scope, (event, category, action), {}, fields, rate)

    def _send(
        self,
        route: Route,
        scope: Scope,
        names: tuple[str, str, str],
        own: dict[str, Any],
        fields: dict[str, Any],
        rate: float,
    ) -> None:
        """Place further fields, and publish the event if there is consent."""
        user_id, at, properties = scope.user_id, None, _NO_FIELDS
        if scope.fields:
            fields = {**scope.fields, **fields}
        if fields:
            own, properties, given_id, at = self._placed(route, own, fields)
            user_id = given_id or user_id
        if "user_id" in own:
            user_id = own.pop("user_id") or user_id
        event = {
            "event": names[0],
            "event_category": names[1],
            "event_action": names[2],
            "timestamp": at or self._now(),
            **own,
            "user_id": user_id,
            "sample_rate": rate,
            "context": scope.context,
            "properties": properties,
        }
        if fields or "error_message" in own:
            event = self._scrubber.fit(event)
        if self._consent is not None and not self._agreed(event):
            return
        if self._debug:
            log.info("%s: %s", names[0], event)
        self._publish(route, event)

    def _placed(
        self, route: Route, own: dict[str, Any], fields: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], str | None, str | None]:
        """Return the own fields with those that are columns, the properties, the user and the time."""
        further: dict[str, Any] = {}
        user_id = at = None
        placed = dict(own)
        for name, value in fields.items():
            if name == "timestamp":
                at = time_text(value)
                if at is not None:
                    continue
            elif name == "user_id" and own.get("user_id") is None:
                try:
                    user_id = self._own.user(value)
                    continue
                except AnalyticsError:
                    pass
            elif name in route.columns and own.get(name) is None and self._is_recorded(name, value):
                try:
                    placed[name] = self._clean(name, route.columns[name](value))
                    continue
                except (ValueError, TypeError, ArithmeticError):
                    pass
            further[name] = value
        return placed, self._scrubber.fields(further) if further else {}, user_id, at

    def _is_recorded(self, name: str, value: Any) -> bool:
        """Return whether a column takes the value: not under a secret name, where it is masked."""
        return value is not None and not self._scrubber.is_secret(name)

    def _clean(self, name: str, value: Any) -> Any:
        if type(value) is str:
            return self._cleaners.get(name, self._scrubber.text)(value)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._scrubber.fields({name: value}).get(name)
        return value

    def _agreed(self, event: dict[str, Any]) -> bool:
        """Return whether there is consent, and count the event if not; an error means that there is none."""
        error = None
        # A copy, for events share containers, and the account recognises an event by its keys.
        shown = {**event, "context": {**event["context"]}, "properties": {**event["properties"]}}
        try:
            agreed = self._consent is None or self._consent(shown)
        except Exception as raised:  # the application's
            agreed, error = False, raised
        if not agreed:
            self._account.refuse("no consent", error)
        return bool(agreed)

    # -- publishing -----------------------------------------------------------------------------------

    def _publish(self, route: Route, event: dict[str, Any]) -> None:
        account = self._account
        next(account.accepted.numbers)
        if self.closed:
            account.lose("closed")
        elif route.deliveries == 1:
            try:
                route.channels[0]._publish_now(event)
            except RecursionError:
                account.doubtful[id(event)] = event
            except Exception as error:
                account.lose(_reason(error), error)
        else:
            self._publish_parts(route, event)

    def _publish_parts(self, route: Route, event: dict[str, Any]) -> None:
        """Publish an event that has several deliveries, with one id, by which they are counted as one."""
        account, event_id = self._account, new_id()
        account.expect_parts(event_id, route.deliveries)
        each = route.deliveries // len(route.channels)
        for channel in route.channels:
            try:
                channel._publish_now(event, id=event_id)
            except Exception as error:
                account.lose_part(event_id, _reason(error), error, each)


def _process_context(settings: AnalyticsSettings) -> dict[str, Any]:
    known = {
        "service": settings.service,
        "environment": settings.environment,
        "release": settings.release,
        "host": socket.gethostname(),
        "process_id": os.getpid(),
    }
    return {name: value for name, value in known.items() if value}


def _reason(error: Exception) -> str:
    if isinstance(error, NotRunningError):
        return "closed"
    return "mailbox full" if isinstance(error, MailboxFullError) else f"error: {type(error).__name__}"
