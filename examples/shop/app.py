"""The application: a login, products, payments, uploads, a call to another service, and a route that fails.

Events go to ``$RAMBLA_ANALYTICS_URL``, by default to ``analytics.db`` in the current folder.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rambla_py.analytics import AsgiMiddleware, Tracker
from rambla_py.analytics.instrument.httpx import AsyncHttpxTransport
from rambla_py.analytics.report import render_page, report_of

URL = os.environ.get("RAMBLA_ANALYTICS_URL") or "sqlite:///analytics.db"
PASSWORDS = {"ada": "engine", "grace": "compiler"}
PRODUCTS = {1: ("Espresso cup", Decimal("12.50")), 2: ("Moka pot", Decimal("34.00"))}
RATES = {"EUR": Decimal(1), "USD": Decimal("1.10"), "JPY": Decimal(160)}
DECIMALS = {"JPY": Decimal(1)}

tracker = Tracker(URL)


async def login(request: Request) -> Response:
    """Check a password; the password itself is never tracked."""
    form = await request.json()
    user, right = form["user"], PASSWORDS.get(form["user"]) == form["password"]
    tracker.track_user_auth("login", user, right)
    return JSONResponse({"user": user}) if right else JSONResponse({"error": "wrong password"}, 401)


async def products(request: Request) -> Response:
    """List the products."""
    return JSONResponse([{"id": number, "name": name} for number, (name, _) in PRODUCTS.items()])


async def product(request: Request) -> Response:
    """Show a product, with its price in a currency: that takes a call to the service of the rates."""
    name, price = _product(request.path_params["number"])
    currency = request.query_params.get("currency", "EUR")
    # Not request.url_for: its host is the Host header, by which a client would choose whom the shop calls.
    host, port = request.scope["server"]
    answer = await request.state.client.get(f"http://{host}:{port}/rates/{quote(currency, safe='')}")
    if answer.status_code != 200:
        raise HTTPException(400, f"no price in {currency}")
    return JSONResponse({"name": name, "price": str(_rounded(price * Decimal(answer.json()), currency))})


async def rate(request: Request) -> Response:
    """Return the rate of a currency, as another service would."""
    found = RATES.get(request.path_params["currency"])
    return JSONResponse(str(found)) if found else JSONResponse({"error": "unknown currency"}, 404)


async def pay(request: Request) -> Response:
    """Charge for a product; cards that end with 0 are declined."""
    order = await request.json()
    currency = order.get("currency", "EUR")
    name, price = _product(order["product"])
    amount, paid = _rounded(price * RATES[currency], currency), not order["card"].endswith("0")
    with tracker.context(user_id=order["user"]):
        tracker.track_payment("charge", amount, currency, paid, product=name)
        if paid:
            tracker.track_email_send(f"{order['user']}@example.com", "receipt", True)
    return JSONResponse({"amount": str(amount), "currency": currency}, 201 if paid else 402)


async def upload(request: Request) -> Response:
    """Take a picture of any size."""
    size = sum([len(chunk) async for chunk in request.stream()])
    kind = request.headers.get("content-type", "application/octet-stream")
    tracker.track_file_operation("upload", kind, size, True)
    return JSONResponse({"size": size}, 201)


async def broken(request: Request) -> Response:
    """Fail, as every shop does at times."""
    raise ConnectionError("the warehouse does not answer")


def analytics(request: Request) -> Response:
    """Show the last hour. It reads the database, so Starlette runs it in a thread."""
    return HTMLResponse(render_page(report_of(URL), title="Shop", refresh_s=10))


async def icon(request: Request) -> Response:
    """Tell browsers that there is no icon, which they ask for with each page."""
    return Response(status_code=204)


async def home(request: Request) -> Response:
    """Show what there is."""
    paths = (f"{', '.join(sorted(route.methods or ()))} {route.path}" for route in ROUTES)
    return PlainTextResponse("\n".join(paths) + "\n")


def _product(number: Any) -> tuple[str, Decimal]:
    if number not in PRODUCTS:
        raise HTTPException(404, "no such product")
    return PRODUCTS[number]


def _rounded(amount: Decimal, currency: str) -> Decimal:
    return amount.quantize(DECIMALS.get(currency, Decimal("0.01")))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Give requests a client for outgoing calls, and send the last events at the end."""
    tracker.track_system_performance()
    tracker.sample_system(every_s=10)
    async with httpx.AsyncClient(transport=AsyncHttpxTransport(tracker, service="rates")) as client:
        yield {"client": client}
    await tracker.aclose()


ROUTES = [
    Route("/", home),
    Route("/login", login, methods=["POST"]),
    Route("/products", products),
    Route("/products/{number:int}", product),
    Route("/rates/{currency}", rate),
    Route("/payments", pay, methods=["POST"]),
    Route("/uploads", upload, methods=["POST"]),
    Route("/broken", broken),
    Route("/analytics", analytics),
    Route("/favicon.ico", icon),
]
app = Starlette(
    routes=ROUTES,
    lifespan=lifespan,
    middleware=[Middleware(AsgiMiddleware, tracker=tracker, exclude=["/analytics", "/favicon.ico"])],
)
