"""The shop, driven over HTTP under uvicorn and gunicorn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from shop_server import EXAMPLES, GunicornShop, ShopServer

ORDER = {"user": "ada", "product": 1, "card": "4111 1111 1111 1111"}


@pytest.fixture(scope="module")
def visited(shop: ShopServer) -> ShopServer:
    """The shop after each of its routes was called, when all of it is in the database."""
    statuses = [
        shop.get("/"),
        shop.get("/products"),
        shop.get("/products/1?currency=USD", host="127.0.0.1:1"),  # not whom the shop calls
        shop.get("/products/9"),
        shop.get("/products/2?currency=XXX"),
        shop.post("/login", {"user": "ada", "password": "engine"}),
        shop.post("/login", {"user": "ada", "password": "hunter2-canary"}),
        shop.post("/payments", ORDER),
        shop.post("/payments", {**ORDER, "currency": "JPY"}),
        shop.post("/payments", {**ORDER, "card": "4000 0000 0000 0000"}),
        shop.post("/uploads", b"x" * 70_000, "image/png"),
        shop.get("/broken"),
        shop.get("/wp-login.php"),
    ]
    assert statuses == [200, 200, 200, 404, 400, 200, 401, 201, 201, 402, 201, 500, 404]
    # Two of them call the service of the rates, which is the shop itself; the exception is there twice.
    shop.wait_for("api_events", len(statuses) + 2 + 1)
    for table, number in {
        "payment_events": 3,
        "email_events": 2,
        "file_operation_events": 1,
        "authentication_events": 2,
        "external_api_events": 2,
        "backend_error_events": 1,
    }.items():
        shop.wait_for(table, number)
    return shop


def test_requests_are_recorded_by_template(visited: ShopServer) -> None:
    """Paths are those of the routes; what no route takes is one path."""
    found = sorted((method, path, status) for method, path, status, _ in visited.requests())
    assert found == [
        ("GET", "(no route)", 404),
        ("GET", "/", 200),
        ("GET", "/broken", 500),
        ("GET", "/products", 200),
        ("GET", "/products/{number:int}", 200),
        ("GET", "/products/{number:int}", 400),
        ("GET", "/products/{number:int}", 404),
        ("GET", "/rates/{currency}", 200),
        ("GET", "/rates/{currency}", 404),
        ("POST", "/login", 200),
        ("POST", "/login", 401),
        ("POST", "/payments", 201),
        ("POST", "/payments", 201),
        ("POST", "/payments", 402),
        ("POST", "/uploads", 201),
    ]


def test_each_kind_of_event_has_its_row(visited: ShopServer) -> None:
    """Payments, logins, mail, uploads, outgoing calls, errors."""
    columns = "payment_currency, payment_amount, payment_success, user_id"
    assert sorted(visited.rows(f"select {columns} from payment_events")) == [
        ("EUR", "12.50", 0, "ada"),
        ("EUR", "12.50", 1, "ada"),
        ("JPY", "2000", 1, "ada"),
    ]
    logins = "select auth_action, user_id, auth_success from authentication_events order by auth_success"
    assert visited.rows(logins) == [("login", "ada", 0), ("login", "ada", 1)]
    mail = "select email_domain, email_template, email_success from email_events"
    assert visited.rows(mail) == [("example.com", "receipt", 1)] * 2
    files = "select file_operation, file_type, file_size, file_success from file_operation_events"
    assert visited.rows(files) == [("upload", "image/png", 70_000, 1)]
    calls = "select api_service, api_status_code, api_success from external_api_events order by 2"
    assert visited.rows(calls) == [("rates", 200, 1), ("rates", 404, 0)]
    errors = "select error_type, path, status_code from backend_error_events"
    assert visited.rows(errors) == [("ConnectionError", "/broken", 500)]


def test_no_password_is_in_the_database(visited: ShopServer) -> None:
    """Neither in the file nor beside it."""
    for path in visited.folder.glob("analytics.db*"):
        assert b"hunter2-canary" not in path.read_bytes()


def test_the_page_shows_what_was_recorded(visited: ShopServer) -> None:
    """Its tiles are those that the rows make; looking at it is no request."""
    expected = visited.expected()
    page = visited.page()
    values = re.findall(r'<dd class="value[^"]*">([^<]+)</dd>', page)
    assert values[0] == f"{expected.requests}"
    assert values[3] == f"{expected.error_share * 100:.1f} %"
    assert values[4:] == ["12.50 EUR", "2,000 JPY"]
    assert '<meta http-equiv="refresh" content="10">' in page
    assert visited.expected() == expected


def test_workers_of_gunicorn_record_each_event_once(gunicorn_shop: GunicornShop) -> None:
    """Two workers, forked from a loaded application: all events of both are there, and none twice."""
    number = 60
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(gunicorn_shop.get, ["/products"] * number)) == {200}
    gunicorn_shop.wait_for("api_events", number)
    gunicorn_shop.wait_for("system_performance_events", 2)
    process = "json_extract(context, '$.process_id')"
    workers = set(gunicorn_shop.rows(f"select {process} from system_performance_events"))
    assert len(workers) == 2
    assert set(gunicorn_shop.rows(f"select {process} from api_events")) <= workers
    assert f'<dd class="value">{number}</dd>' in gunicorn_shop.page()


@pytest.mark.timeout(300)
def test_the_demo_sends_requests_and_prints_the_report() -> None:
    """As ``make shop-demo``, for a second."""
    done = subprocess.run(
        [sys.executable, "-m", "shop.demo", "--seconds", "1", "--port", "0"],
        cwd=EXAMPLES,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Analytics, last hour" in done.stdout
    assert "sent 0 requests" not in done.stdout
