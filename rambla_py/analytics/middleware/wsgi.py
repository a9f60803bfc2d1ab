"""Middleware for WSGI applications."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from rambla_py.analytics.middleware.recorder import (
    CLIENT_CLOSED,
    SERVER_ERROR,
    Described,
    Exchange,
    Identify,
    RequestRecorder,
)

if TYPE_CHECKING:
    from rambla_py.analytics.tracker import Tracker

__all__ = ["EXCHANGE", "WsgiExchange", "WsgiMiddleware"]

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

EXCHANGE: Final = "rambla_py.analytics.exchange"
"""Key of the environment under which a framework finds the request, to set its route and its error."""


class WsgiMiddleware:
    """Tracks each request of a WSGI application as an API Call, and what it raises as an API Error.

    The path has its variable segments masked, because a WSGI wrapper sees no route: for Flask use
    `instrument_flask`, for Django its own middleware. The request ends when the server closes the
    response: streams are measured to their end. A response that the server closes before its end is a
    499; an exception is a 500 and passes on untouched. The parameters are those of `AsgiMiddleware`;
    ``identify`` is called with the environment. Raises `AnalyticsError` for a share, or a network, that
    is none.

    >>> def application(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [b"ok"]
    >>> application = WsgiMiddleware(application, tracker, exclude=["/health*"])  # doctest: +SKIP
    """

    def __init__(
        self,
        app: WsgiApp,
        tracker: Tracker,
        *,
        exclude: Iterable[str] = (),
        sample: float | None = None,
        trusted_proxies: Iterable[str] = (),
        identify: Identify[Environ] | None = None,
    ) -> None:
        self.app = app
        self._recorder: RequestRecorder[Environ] = RequestRecorder(
            tracker, exclude=exclude, sample=sample, trusted_proxies=trusted_proxies, identify=identify
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Run the application; the request is tracked when the returned response is closed."""
        excluded = self._recorder.exclusions
        if excluded is not None and excluded.match(environ.get("PATH_INFO", "")):
            return self.app(environ, start_response)
        exchange = WsgiExchange(self._recorder, environ, start_response)
        environ[EXCHANGE] = exchange
        try:
            body = self.app(environ, exchange.start_response)
        except Exception as error:
            exchange.fail(error)
            raise
        except BaseException:
            exchange.end(CLIENT_CLOSED)
            raise
        if _closes_with(body, exchange):
            return body
        return _SizedBody(body, exchange) if hasattr(body, "__len__") else _Body(body, exchange)

    def pass_through(self) -> None:
        """Track no further requests, where the middleware cannot be taken out."""
        self._recorder.exclude_all()


class WsgiExchange(Exchange[Environ]):
    """One request: its status is known by ``start_response``, its route where the framework sets it."""

    __slots__ = ("_start_response", "route", "status")

    def __init__(
        self, recorder: RequestRecorder[Environ], environ: Environ, start_response: StartResponse
    ) -> None:
        super().__init__(recorder, environ)
        self._start_response = start_response
        self.status = SERVER_ERROR
        self.route: str | None = None

    def start_response(self, status: str, *more: Any) -> Callable[[bytes], object]:
        """Note the status, and hand it to the server."""
        code = status[:3]
        self.status = int(code) if code.isascii() and code.isdigit() else SERVER_ERROR
        return self._start_response(status, *more)

    def close(self, *, is_cut: bool = False) -> None:
        """End the request; ``is_cut``: the server has not read the whole response."""
        self.end(CLIENT_CLOSED if is_cut else self.status)

    def describe(self) -> Described:
        """Return the method, the path, the user agent and the client's address."""
        environ, recorder = self.request, self.recorder
        path = self.route or recorder.masks.mask(_path(environ))
        return environ["REQUEST_METHOD"], path, *recorder.clients.of_environ(environ)


class _Body:
    """A response whose end is noticed."""

    __slots__ = ("_body", "_exchange", "_is_cut", "_iterator")

    def __init__(self, body: Iterable[bytes], exchange: WsgiExchange) -> None:
        self._body = body
        self._exchange = exchange
        self._iterator: Iterator[bytes] | None = None
        self._is_cut = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
                # Servers do not read what they will not send.
                self._is_cut = self._exchange.request["REQUEST_METHOD"] != "HEAD"
            return next(self._iterator)
        except StopIteration:
            self._is_cut = False
            raise
        except Exception as error:
            self._exchange.fail(error)
            raise

    def close(self) -> None:
        """Close the application's response; the request ends."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        except Exception as error:
            self._exchange.fail(error)
            raise
        self._exchange.close(is_cut=self._is_cut)


class _SizedBody(_Body):
    """A response in parts that are known; servers set ``Content-Length`` for a single one."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # what has no length is a plain _Body


def _closes_with(body: Iterable[bytes], exchange: WsgiExchange) -> bool:
    """Let a file that the server sends by itself end the request; False if it is none.

    Servers recognize their own class of such files, so that it cannot be wrapped.
    """
    wrapper = exchange.request.get("wsgi.file_wrapper")
    if not isinstance(wrapper, type) or not isinstance(body, wrapper):
        return False
    close = getattr(body, "close", None)

    def close_both() -> None:
        if close is not None:
            close()
        exchange.close()

    try:
        body.close = close_both  # type: ignore[attr-defined]  # servers look it up on the instance
    except AttributeError:
        return False
    return True


def _path(environ: Environ) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
