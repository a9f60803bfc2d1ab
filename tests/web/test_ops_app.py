"""The routes of the operations application, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from small_apps import TIMEOUT_S, one, probe, running, service, table, until
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.testclient import TestClient

import rambla_py
from rambla_py import OptionError, PermanentError, Rambla, Secret
from rambla_py.web import ops_app
from rambla_py.web.guard import ANY_ADDRESS, Guard
from rambla_py.web.tokens import TokenCheck

TOKEN = "a-token-für-tests"
ROUTES = ["/", "/status.json", "/failures.json", "/plan.json", "/metrics"]
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def refuse(message: Any) -> None:
    raise PermanentError("no room for row 17")


def client_of(app: Rambla, **options: Any) -> TestClient:
    return TestClient(ops_app(app, **options), base_url="http://127.0.0.1:8421", follow_redirects=False)


def bearer(token: str) -> dict[str, bytes]:
    return {"authorization": b"Bearer " + token.encode()}


@pytest.fixture
def app() -> Rambla:
    return Rambla(table(probe(lambda message: None)))


@pytest.fixture
def guarded(app: Rambla) -> Iterator[TestClient]:
    with client_of(app, token=TOKEN) as client:
        yield client


def test_the_status_is_that_of_the_app() -> None:
    """The document has the process, and each target as ``status()`` has it, with the number accepted."""
    with running(table(probe(lambda message: None)) | {"rambla": {"telemetry": {"name": "shop"}}}) as app:
        one(app)
        document = client_of(app).get("/status.json").json()
        target = document["targets"].pop("probe.orders")
        assert target["accepted"] == 1
        expected = json.loads(json.dumps(app.status()["probe.orders"].to_dict()))
        assert {name: target[name] for name in ("statuses", "times", "max_pending", "handler")} == {
            name: expected[name] for name in ("statuses", "times", "max_pending", "handler")
        }
        assert set(target) == set(expected)
        assert document.pop("at") > 1.6e9
        assert document.pop("uptime_s") >= 0
        assert document.pop("host")
        assert document == {
            "name": "shop",
            "version": rambla_py.__version__,
            "pid": os.getpid(),
            "state": "running",
            "targets": {},
        }


def test_the_failures_are_those_of_the_app() -> None:
    """By kind of error, for all channels or one; nothing of the message but its id."""
    with running(table(probe(refuse), options={"retries": 0})) as app, client_of(app) as client:
        ended = one(app, "a payload", key="a-key", headers={"name": "a-header"})
        answer = client.get("/failures.json", params={"channel": "orders", "limit": "1"})
        (group,) = answer.json()["groups"]
        assert (group["service"], group["channel"], group["status"]) == ("probe", "orders", "fatal")
        assert (group["count"], group["ids"]) == (1, [ended.message_id])
        for hidden in ("a payload", "a-key", "a-header"):
            assert hidden not in answer.text
        assert client.get("/failures.json", params={"channel": "ordres"}).status_code == 400
        for limit in ("0", "-1", "ten", "²"):
            assert client.get("/failures.json", params={"limit": limit}).status_code == 400


def test_an_app_that_is_not_started_has_a_status(app: Rambla) -> None:
    """It has no targets yet, and no uptime."""
    document = client_of(app, title="Orders").get("/status.json").json()
    assert (document["name"], document["state"], document["uptime_s"], document["targets"]) == (
        "Orders",
        "not started",
        None,
        {},
    )


def test_the_plan_is_that_of_the_app(app: Rambla) -> None:
    """The tree, as plain data."""
    assert client_of(app).get("/plan.json").json() == app.plan.as_data()


def test_a_plan_that_fails_says_so() -> None:
    """Code of handlers may raise; its secrets stay secret."""

    def external_servers(self: Any, channel: Any) -> Any:
        raise ValueError("no server for hunter2")

    handler = type("Odd", (probe(lambda message: None),), {"external_servers": external_servers})
    config = {"odd": service(handler, orders={}), "rambla": {"web": {"token": "hunter2"}}}
    answer = client_of(Rambla(config)).get("/plan.json", headers=bearer("hunter2"))
    assert answer.status_code == 500
    assert "no server for ***" in answer.json()["error"]


def test_the_metrics_are_those_of_the_app() -> None:
    """Prometheus can read them; the name of the app is a label."""
    with running(table(probe(lambda message: None)) | {"rambla": {"telemetry": {"name": "shop"}}}) as app:
        one(app)
        answer = client_of(app).get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = [
            sample
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == "rambla_accepted_total"
        ]
        (accepted,) = samples
        assert accepted.labels == {"app": "shop", "service": "probe", "channel": "orders"}
        assert accepted.value == 1


def test_probes_use_the_table_of_the_configuration() -> None:
    """``required`` and ``need`` of ``[rambla.web]`` hold for ``/readyz``."""
    gate = threading.Event()
    handler = probe(lambda message: gate.wait(TIMEOUT_S) and None)
    config = table(handler, max_pending=1, batch_size=1, overflow="raise")
    config |= {"rambla": {"web": {"required": ["orders"]}}}
    with running(config, gate) as app, client_of(app, token=TOKEN) as client:
        assert client.get("/readyz").json() == {"ready": True, "reasons": []}
        assert client.get("/livez").json() == {"live": True, "reasons": []}
        app.publish("orders", "taken")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        app.publish("orders", "waits")
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["probe.orders: mailbox full (1)"])


@pytest.mark.parametrize("path", ROUTES)
def test_without_the_token_nothing_is_shown(guarded: TestClient, path: str) -> None:
    """401, and how to bring it."""
    answer = guarded.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text
    assert guarded.get(path, headers=bearer(TOKEN)).status_code == 200
    assert guarded.get(path, headers=bearer("wrong")).status_code == 401


def test_a_token_of_the_query_becomes_a_cookie(guarded: TestClient) -> None:
    """``/?token=`` redirects to the address without it; the cookie is for this site and no script."""
    answer = guarded.get("/", params={"token": TOKEN, "all": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?all=1")
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert guarded.get("/status.json").status_code == 200  # the client keeps the cookie
    guarded.cookies.clear()
    assert guarded.get("/status.json", params={"token": TOKEN}).status_code == 401
    assert guarded.get("/", params={"token": "wrong"}).status_code == 401


def test_cookies_of_others_do_not_matter(guarded: TestClient) -> None:
    """A malformed cookie of another application beside ours is passed over."""
    name, _, value = (
        guarded.get("/", params={"token": TOKEN}).headers["set-cookie"].partition(";")[0].partition("=")
    )
    guarded.cookies.clear()
    both = {"cookie": f"a[]=\x22; {name}={value}; b"}
    assert guarded.get("/status.json", headers=both).status_code == 200
    assert guarded.get("/status.json", headers={"cookie": f"{name}={value}x"}).status_code == 401


def test_the_cookie_is_secure_over_tls(app: Rambla) -> None:
    """A browser does not send it in the clear."""
    with TestClient(
        ops_app(app, token=TOKEN), base_url="https://localhost", follow_redirects=False
    ) as client:
        assert "Secure" in client.get("/", params={"token": TOKEN}).headers["set-cookie"]


def test_after_ten_wrong_tokens_none_is_looked_at() -> None:
    """For the rest of a second not even the right one."""
    now = [0.0]
    check = TokenCheck(TOKEN, clock=lambda: now[0])
    guard = Guard(PlainTextResponse("inside"), check=check, hosts=[], headers={})
    client = TestClient(guard, base_url="http://localhost")
    for number in range(10):
        assert client.get("/", headers=bearer(f"wrong {number}")).status_code == 401
    refused = client.get("/", headers=bearer(TOKEN))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    now[0] = 0.9
    assert client.get("/", headers=bearer(TOKEN)).status_code == 429
    now[0] = 1.0
    assert client.get("/", headers=bearer(TOKEN)).text == "inside"


def test_token_and_hosts_of_the_configuration_apply() -> None:
    """Where none are given."""
    web = {"token": TOKEN, "allowed_hosts": ["ops.example.com"]}
    client = client_of(Rambla(table(probe(lambda message: None)) | {"rambla": {"web": web}}))
    host = {"host": "ops.example.com"}
    assert client.get("/status.json", headers=host).status_code == 401
    assert client.get("/status.json", headers={**host, **bearer(TOKEN)}).status_code == 200


def test_an_empty_token_is_refused(app: Rambla) -> None:
    """A variable that is set to nothing must not open the server."""
    for token in ("", "  ", Secret("")):
        with pytest.raises(OptionError, match="token"):
            ops_app(app, token=token)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1:8421", "[::1]:8421", "::1", "OPS.example.com", "10.0.0.7:80"),
        "[2001:DB8:0:0::7]:80",
    ],
)
def test_its_own_hosts_are_accepted(app: Rambla, host: str) -> None:
    """Loopback, and those that were allowed, with any port, and however an address is written."""
    client = client_of(app, allowed_hosts=["ops.example.com", "10.0.0.7", "2001:db8::7"])
    assert client.get("/status.json", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.8", "", "a:b:c", "[::1"])
def test_other_hosts_are_refused(app: Rambla, host: str) -> None:
    """A site whose name resolves to this machine could otherwise read the answers."""
    client = client_of(app, allowed_hosts=["ops.example.com", "10.0.0.7"])
    assert client.get("/status.json", headers={"host": host}).status_code == 400
    assert client.get("/livez", headers={"host": host}).status_code == 200  # as platforms ask, by address


def test_a_server_on_every_address_accepts_each_and_no_name() -> None:
    """A page of another site has its name in ``Host``, wherever that name leads."""
    guard = Guard(PlainTextResponse("inside"), check=None, hosts=[ANY_ADDRESS], headers={})
    client = TestClient(guard)
    answers = {
        host: client.get("/", headers={"host": host}).status_code for host in ("10.0.0.8:80", "evil.example")
    }
    assert answers == {"10.0.0.8:80": 200, "evil.example": 400}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", [*ROUTES, "/readyz"])
def test_nothing_can_be_changed(guarded: TestClient, method: str, path: str) -> None:
    """Every other method is a 405, with the token too."""
    answer = guarded.request(method, path, headers=bearer(TOKEN))
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", [*ROUTES, "/livez", "/nothing"])
def test_every_answer_has_the_headers(guarded: TestClient, path: str) -> None:
    """Also refusals and what is not found; no answer allows another origin."""
    for answer in (guarded.get(path), guarded.get(path, headers=bearer(TOKEN)), guarded.post(path)):
        assert HEADERS.items() <= dict(answer.headers).items()
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "connect-src 'self'"):
            assert part in policy
        assert "unsafe" not in policy
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("token", [TOKEN, "wrong"])
@pytest.mark.parametrize("path", [*ROUTES, "/livez"])
def test_head_has_no_body(app: Rambla, path: str, token: str) -> None:
    """The application itself sends none, whatever the server would make of it; refusals included."""
    sent: list[Any] = []
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + token.encode())]
    scope = {"type": "http", "method": "HEAD", "path": path, "query_string": b"", "headers": headers}

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(ops_app(app, token=TOKEN)(scope, receive, send))
    assert sent[0]["status"] == (200 if token == TOKEN or path == "/livez" else 401)
    assert [message.get("body", b"") for message in sent[1:]] == [b""]


def test_it_can_be_mounted(app: Rambla) -> None:
    """Below a path of a server of one's own; the cookie and the redirect know it."""
    outer = Starlette(routes=[Mount("/ops", ops_app(app, token=TOKEN))])
    with TestClient(outer, base_url="http://localhost", follow_redirects=False) as client:
        assert client.get("/ops/livez").status_code == 200
        assert client.get("/ops/status.json").status_code == 401
        assert client.get("/ops/status.json", headers=bearer(TOKEN)).status_code == 200
        answer = client.get("/ops/", params={"token": TOKEN})
        assert answer.headers["location"] == "/ops/"
        assert "Path=/ops/" in answer.headers["set-cookie"]
        assert client.get("/ops/status.json").status_code == 200


def test_dead_letters_are_listed_by_group(tmp_path: Path) -> None:
    """Where an outbox is configured; what is kept there is no failure of the ring."""
    durable = table(probe(refuse), {"retries": 0}, durable=True)
    with running(durable | {"rambla": {"outbox": {"url": f"sqlite:///{tmp_path}/outbox.db"}}}) as app:
        client = client_of(app)
        assert client.get("/failures.json").json()["dead"] == []
        for _ in range(3):
            assert one(app).status == "fatal"
        document = client.get("/failures.json?channel=orders").json()
    assert document["groups"] == []
    (group,) = document["dead"]
    assert (group["count"], group["channel"], group["replayed"]) == (3, "probe.orders", 0)
    assert "no room for row" in group["error"]


def test_without_an_outbox_there_are_no_dead_letters(app: Rambla) -> None:
    """The document says nothing about them."""
    with app:
        assert "dead" not in client_of(app).get("/failures.json").json()
