"""Middleware for Flask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rambla_py.analytics.instrumentation import Instrumentation
from rambla_py.analytics.middleware.paths import NO_ROUTE
from rambla_py.analytics.middleware.recorder import Identify
from rambla_py.analytics.middleware.wsgi import EXCHANGE, Environ, WsgiExchange, WsgiMiddleware

if TYPE_CHECKING:
    from flask import Flask

    from rambla_py.analytics.tracker import Tracker

__all__ = ["instrument_flask"]


def instrument_flask(
    app: Flask,
    tracker: Tracker,
    *,
    exclude: Iterable[str] = (),
    sample: float | None = None,
    trusted_proxies: Iterable[str] = (),
    identify: Identify[Environ] | None = None,
) -> Instrumentation:
    """Track each request of a Flask application, and each exception that it does not handle.

    The path is the rule of the route with the prefixes of its blueprints (``/items/<int:id>``), or
    ``(no route)``. To be called before the first request; ``uninstrument()`` of what is returned ends it.
    The parameters are those of `WsgiMiddleware`.

    >>> from flask import Flask
    >>> app = Flask("shop")
    >>> instrument_flask(app, tracker, exclude=["/health*"])  # doctest: +SKIP
    """
    # The application is a Flask, so that this is loaded; importing the middleware must not load it.
    from flask import got_request_exception, request

    def note_route(endpoint: str | None, values: dict[str, Any] | None) -> None:
        exchange = request.environ.get(EXCHANGE)
        if isinstance(exchange, WsgiExchange):
            exchange.route = NO_ROUTE if request.url_rule is None else request.url_rule.rule

    def note_error(sender: object, exception: BaseException, **_: object) -> None:
        exchange = request.environ.get(EXCHANGE)
        if isinstance(exchange, WsgiExchange):
            exchange.error = exception

    inner = app.wsgi_app
    middleware = WsgiMiddleware(
        inner,
        tracker,
        exclude=exclude,
        sample=sample,
        trusted_proxies=trusted_proxies,
        identify=identify,
    )
    # Called before all before_request functions, one of which may answer the request.
    app.url_value_preprocessor(note_route)
    got_request_exception.connect(note_error, app, weak=False)
    app.wsgi_app = middleware  # type: ignore[method-assign]  # as Flask's documentation says

    def undo() -> None:
        got_request_exception.disconnect(note_error, app)
        middleware.pass_through()
        if app.wsgi_app is middleware:
            app.wsgi_app = inner  # type: ignore[method-assign]  # the same

    return Instrumentation(undo)
