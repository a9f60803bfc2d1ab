"""Templates of the routes of Starlette and FastAPI, found through what their routers leave in the scope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rambla_py.analytics.middleware.paths import NO_ROUTE

__all__ = ["RouteTemplates"]

_MOST_KNOWN: Final = 4_096
_DEEPEST: Final = 16
_REST: Final = "/{path:path}"


class RouteTemplates:
    """The template of the route that a router chose, with those of the mounts around it.

    A mount leaves the *values* of its parameters in ``root_path``, and routers that FastAPI includes
    leave no prefix in ``scope["route"]``. So the tree of routes is searched for the route once, and the
    template is kept by route object. A route that is mounted at several places is searched for in each
    request.
    """

    __slots__ = ("known",)

    def __init__(self) -> None:
        # By the ids of route and endpoint, because routes are not hashable; each value holds both, so that
        # the ids stay theirs.
        self.known: dict[tuple[int, int], tuple[object, object, str]] = {}

    def template(self, scope: Mapping[str, Any]) -> str | None:
        """Return the template of a request's route, ``(no route)``, or None when there was no router.

        ``scope`` is the one that the application was called with, after the router has chosen.
        """
        route, endpoint = scope.get("route"), scope.get("endpoint")
        if route is None and endpoint is None:
            return NO_ROUTE if "router" in scope else None
        known = self.known.get((id(route), id(endpoint)))
        return known[2] if known is not None else self._find(route, endpoint, scope)

    def _find(self, route: Any, endpoint: Any, scope: Mapping[str, Any]) -> str:
        found = list(dict.fromkeys(_templates(scope.get("router"), route, endpoint)))
        if len(found) == 1:
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[id(route), id(endpoint)] = (route, endpoint, found[0])
            return found[0]
        if not found:
            return _template_by_values(route, scope)
        path = scope["path"].removeprefix(scope.get("app_root_path", scope.get("root_path", "")))
        return next((template for template in found if _fits(template, path)), found[0])


def _templates(router: Any, route: Any, endpoint: Any) -> Iterator[str]:
    """Yield the templates under which a router reaches a route, or else the routes of its endpoint.

    FastAPI sets no ``scope["route"]`` for plain routes of Starlette, and leaves that of a mount around them.
    """
    is_chosen = route is not None and _endpoint(route) is endpoint
    for node, template in _nodes(getattr(router, "routes", ()), "", 0):
        if node is route if is_chosen else _endpoint(node) is endpoint:
            yield template


def _nodes(routes: Any, prefix: str, depth: int) -> Iterator[tuple[Any, str]]:
    """Yield each route of a tree, and its template with those of the mounts around it."""
    if depth > _DEEPEST:
        return
    for route in routes or ():
        included = getattr(route, "effective_route_contexts", None)
        if included is not None:  # a router that FastAPI includes: each route comes with its full prefix
            for context in included():
                plain = context.starlette_route
                if plain is None:
                    yield context.original_route, prefix + context.path
                else:
                    yield from _nodes([plain], prefix, depth + 1)
            continue
        inner = getattr(route, "routes", None)
        path = getattr(route, "path", "")
        if inner:  # a request that ends at this mount has found no route inside
            yield route, NO_ROUTE
            yield from _nodes(inner, prefix + path, depth + 1)
        elif inner is None:
            yield route, prefix + path
        else:
            yield route, prefix + path + _REST


def _endpoint(route: Any) -> Any:
    return getattr(route, "endpoint", None) or getattr(route, "app", None)


def _template_by_values(route: Any, scope: Mapping[str, Any]) -> str:
    """Return a template for a route that the tree does not show, such as one inside a wrapped mount.

    The segments of ``root_path`` that are values of parameters become the parameters' names.
    """
    path = getattr(route, "path", None)
    if not isinstance(path, str):
        return NO_ROUTE
    mounts = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
    own = getattr(route, "param_convertors", {})
    names = {
        str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items() if name not in own
    }
    return "/".join([names.get(segment, segment) for segment in mounts.split("/")]) + path


def _fits(template: str, path: str) -> bool:
    """Return whether a path may be one of a template, by its literal segments."""
    wanted, given = template.split("/"), path.split("/")
    for position, segment in enumerate(wanted):
        if ":path}" in segment:
            return len(given) > position
        if position >= len(given) or ("{" not in segment and segment != given[position]):
            return False
    return len(wanted) == len(given)
