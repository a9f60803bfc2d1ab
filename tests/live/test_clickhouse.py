"""Tests of the clickhouse handler against a real server; newer servers' settings against our own."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from http_app import channel
from web_server import Reply, Seen, WebServer

from rambla_py.errors import AccessError, ConnectionLostError, PermanentError, SerializationError
from rambla_py.handler import Secret
from rambla_py.handlers.clickhouse import ClickHouseHandler
from rambla_py.testing.clickhouse_server import ClickHouseServer
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import TlsFiles

Settings = "insert_deduplication_token\nasync_insert\ndate_time_input_format\ninput_format_parallel_parsing\n"


@pytest.fixture
def table(clickhouse: ClickHouseServer, unique_name: str) -> Iterator[str]:
    """A table with a number, a string, a time and the message's id."""
    columns = "n Int32, name String, at DateTime, day Date, mid String"
    clickhouse.query(f"CREATE TABLE `{unique_name}` ({columns}) ENGINE = MergeTree ORDER BY n")
    yield unique_name
    clickhouse.query(f"DROP TABLE IF EXISTS `{unique_name}`")


@pytest.fixture
def newer() -> Iterator[WebServer]:
    """A server that says of itself what ClickHouse 23 says."""
    with WebServer() as server:
        server.answer = lambda seen: Reply(200, Settings.encode() if b"system.settings" in seen.body else b"")
        yield server


def to(server: Any, /, connection: dict[str, Any] | None = None, **options: Any) -> Any:
    return channel("clickhouse", {"host": server.host, "port": server.port, **(connection or {})}, **options)


def rows(clickhouse: ClickHouseServer, table: str, columns: str = "*") -> list[dict[str, Any]]:
    text = clickhouse.query(f"SELECT {columns} FROM `{table}` ORDER BY n, mid FORMAT JSONEachRow")
    return [json.loads(line) for line in text.splitlines()]


def inserts(server: WebServer) -> list[Seen]:
    return [seen for seen in server.seen if "INSERT" in seen.query.get("query", [""])[0]]


def refusal(**connection: Any) -> ConnectionLostError:
    """Return the error of a connect that must fail."""
    with pytest.raises(ConnectionLostError) as caught:
        ClickHouseHandler(ClickHouseHandler.Connection(**connection)).connect()
    return caught.value


# -- rows ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Event:
    n: int
    name: str


def test_one_row_and_many(clickhouse: ClickHouseServer, table: str):
    """An object is a row, a list of objects many; the result counts them."""
    with to(clickhouse, table=table, id_column="mid") as c:
        assert c.send({"n": 1, "name": "one"}, id="a").result == 1
        assert c.send([{"n": 2}, Event(3, "three")], id="b").result == 2
    assert rows(clickhouse, table, "n, name, mid") == [
        {"n": 1, "name": "one", "mid": "a"},
        {"n": 2, "name": "", "mid": "b"},
        {"n": 3, "name": "three", "mid": "b"},
    ]


@pytest.mark.parametrize("text", ['{"n":1}', b'{"n":1}', '[{"n":1}]', '{"n":1}\n', ' {"n": 1} '])
def test_json_text(clickhouse: ClickHouseServer, table: str, text: str | bytes):
    """JSON text is read: an object, or a list."""
    with to(clickhouse, table=table) as c:
        assert c.send(text).result == 1
    assert rows(clickhouse, table, "n") == [{"n": 1}]


def test_lines_of_json(clickhouse: ClickHouseServer, table: str):
    """Text may hold an object a line."""
    with to(clickhouse, table=table) as c:
        assert c.send('{"n":1}\n{"n":2}\n').result == 2


def test_times(clickhouse: ClickHouseServer, table: str):
    """Times and dates of Python arrive as what they are."""
    at = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    with to(clickhouse, table=table) as c:
        assert c.send({"n": 1, "at": at, "day": date(2026, 2, 1)}).status == "ok"
    assert rows(clickhouse, table, "at, day") == [{"at": "2026-01-31 12:30:00", "day": "2026-02-01"}]


@pytest.mark.parametrize("payload", [1, None, [1], [], "no json", {"n": 1, "mid": "taken"}])
def test_payloads_that_are_no_rows(clickhouse: ClickHouseServer, table: str, payload: Any):
    """What is no object, or would be overwritten, is fatal at once, and the error says what is taken."""
    with to(clickhouse, table=table, id_column="mid") as c:
        outcome = c.send(payload)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)
    assert isinstance(outcome.error, PermanentError)


def test_the_path_to_what_is_no_json(clickhouse: ClickHouseServer, table: str):
    """It is an error of the call; in a list the path begins with the place of the row."""
    with to(clickhouse, table=table) as c, pytest.raises(SerializationError) as caught:
        c.send([{"n": 1}, {"n": object()}])
    assert caught.value.path == "$[1].n"


def test_bytes_that_are_no_text(clickhouse: ClickHouseServer, table: str):
    """They are an error of the call, because a row is JSON."""
    with to(clickhouse, table=table) as c, pytest.raises(SerializationError, match="not UTF-8"):
        c.send(b"\xff")


def test_a_batch_is_one_insert(newer: WebServer):
    """Messages that come together are one request, compressed, to the quoted table."""
    with to(newer, {"database": "shop", "settings": {"insert_quorum": 2}}, table="a`b") as c:
        c.send_many([{"n": n} for n in range(200)])
    [seen] = inserts(newer)
    assert seen.query["query"] == ["INSERT INTO `a\\`b` FORMAT JSONEachRow"]
    assert (seen.query["database"], seen.query["insert_quorum"]) == (["shop"], ["2"])
    assert seen.headers["content-encoding"] == "gzip"
    assert seen.body.splitlines() == [b'{"n":%d}' % n for n in range(200)]


def test_tables_of_one_message(clickhouse: ClickHouseServer, table: str):
    """A message may name another table; one that does not exist fails it alone."""
    with to(clickhouse, table=f"default.{table}") as c:
        assert c.send({"n": 1}).status == "ok"
        outcome = c.send({"n": 1}, table="no_such_table")
    assert outcome.status == "fatal"
    assert "no_such_table" in str(outcome.error)


@pytest.mark.parametrize("name", ["a.b.c", ".b", "a\nb"])
def test_names_that_are_no_tables(clickhouse: ClickHouseServer, name: str):
    """A name that is none is fatal, and nothing is sent."""
    with to(clickhouse) as c:
        assert c.send({"n": 1}, table=name).status == "fatal"


# -- bad rows -----------------------------------------------------------------------------------------------


def test_a_bad_row_is_named_and_fails_alone(clickhouse: ClickHouseServer, table: str):
    """The row that the server cannot take is fatal with the server's words; the others are written once."""
    payloads: list[Any] = [{"n": n} for n in range(500)]
    payloads[123] = {"n": "many"}
    with to(clickhouse, table=table) as c:
        outcomes = c.send_many(payloads)
    assert [at for at, outcome in enumerate(outcomes) if outcome.status != "ok"] == [123]
    assert outcomes[123].status == "fatal"
    assert "column n" in str(outcomes[123].error)
    assert [row["n"] for row in rows(clickhouse, table)] == [n for n in range(500) if n != 123]


def test_many_bad_rows(clickhouse: ClickHouseServer, table: str):
    """With many bad rows the batch is halved; each of them is fatal, all others are written once."""
    payloads = [{"n": n if n % 3 else "bad"} for n in range(90)]
    with to(clickhouse, table=table) as c:
        outcomes = c.send_many(payloads)
    assert [outcome.status for outcome in outcomes] == ["ok" if n % 3 else "fatal" for n in range(90)]
    assert [row["n"] for row in rows(clickhouse, table)] == [n for n in range(90) if n % 3]


def test_a_bad_row_of_a_list(clickhouse: ClickHouseServer, table: str):
    """The rows of a message are written together or not at all."""
    with to(clickhouse, table=table) as c:
        outcomes = c.send_many([[{"n": 1}, {"n": 2}], [{"n": 3}, {"n": "bad"}, {"n": 4}], {"n": 5}])
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "ok"]
    assert [row["n"] for row in rows(clickhouse, table)] == [1, 2, 5]


def test_unknown_fields(clickhouse: ClickHouseServer, table: str):
    """A key without a column is fatal, unless skip_unknown leaves it out."""
    with to(clickhouse, table=table) as c:
        outcome = c.send({"n": 1, "colour": "red"})
    assert outcome.status == "fatal"
    assert "colour" in str(outcome.error)
    with to(clickhouse, table=table, skip_unknown=True) as c:
        assert c.send({"n": 1, "colour": "red"}).status == "ok"


def test_a_server_without_row_numbers():
    """When the server does not say which row it is, halves are tried until it is found."""

    def answer(seen: Seen) -> Reply:
        if b'"bad"' in seen.body:
            return Reply(400, b"Code: 27. DB::Exception: Cannot parse input. (CANNOT_PARSE_INPUT)")
        return Reply(200)

    with WebServer() as server:
        server.answer = answer
        with to(server) as c:
            outcomes = c.send_many([{"n": "bad" if n in (7, 60) else n} for n in range(100)])
        assert [n for n, outcome in enumerate(outcomes) if outcome.status == "fatal"] == [7, 60]
        written = [json.loads(line)["n"] for seen in inserts(server) for line in seen.body.splitlines()]
    assert sorted(written) == [n for n in range(100) if n not in (7, 60)]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, b"Code: 252, e.displayText() = DB::Exception: Too many parts"),
        Reply(500, b"Code: 202. DB::Exception: Too many simultaneous queries"),
        Reply(500, b"Code: 241. DB::Exception: Memory limit (total) exceeded"),
        Reply(503),
    ],
    ids=["parts", "queries", "memory", "proxy"],
)
def test_a_server_that_cannot_write_now(reply: Reply):
    """Inserts wait until the server takes them, without spending retries."""
    answers = [reply, reply, Reply(200)]

    def answer(seen: Seen) -> Reply:
        return answers.pop(0) if "INSERT" in seen.target and len(answers) > 1 else Reply(200)

    with WebServer() as server:
        server.answer = answer
        with to(server, retries=0) as c:
            outcome = c.send({"n": 1})
    assert (outcome.status, outcome.attempts) == ("ok", 3)


def test_slow_inserts_fail_alone():
    """Inserts into a table that is never answered spend their own retries; the others are written once."""
    with WebServer() as server:
        server.answer = lambda seen: Reply(silent="slow" in seen.target)
        with to(server, timeout_s=0.4, retries=1) as c:
            receipts = []
            for n in range(200):
                receipts.append(c.app.publish("to", {"n": n}, table="slow" if n % 50 == 7 else "fast"))
                threading.Event().wait(0.005)
            outcomes = [receipt.outcomes(timeout_s=20)[0] for receipt in receipts]
        written = [json.loads(line)["n"] for seen in inserts(server) for line in seen.body.splitlines()]
    assert [n for n, outcome in enumerate(outcomes) if outcome.status != "ok"] == [7, 57, 107, 157]
    assert {outcome.status for outcome in outcomes} == {"ok", "fatal"}
    assert sorted(n for n in written if n % 50 != 7) == [n for n in range(200) if n % 50 != 7]


def test_rows_of_others_are_not_quoted(
    clickhouse: ClickHouseServer, table: str, caplog: pytest.LogCaptureFixture
):
    """The server quotes the rows around a bad one; errors and logs name its code, column and row."""
    rows = [{"n": 1, "name": "4111-1111"}, {"n": "x4111-2222", "name": "x"}, {"n": 3, "name": "4111-3333"}]
    with to(clickhouse, table=table) as c:
        outcomes = c.send_many(rows)
        status = str(c.status())
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "ok"]
    assert "code 27" in str(outcomes[1].error)
    assert "4111" not in f"{outcomes[1].error}{status}{caplog.text}"


def test_an_error_in_the_midst_of_an_answer():
    """A server that began with 200 and then failed has not written the rows."""

    def answer(seen: Seen) -> Reply:
        return Reply(
            200, b"Code: 241. DB::Exception: Memory limit exceeded" if "INSERT" in seen.target else b""
        )

    with WebServer() as server:
        server.answer = answer
        with to(server, retries=0) as c:
            outcome = c.send({"n": 1})
    assert outcome.status == "fatal"
    assert "Memory limit" in str(outcome.error)


# -- what newer servers know --------------------------------------------------------------------------------


def test_a_deduplication_token(newer: WebServer):
    """The token is made of the ids: the same for the same batch, another for another."""
    with to(newer) as c:
        for name in ("a", "a", "b"):
            c.send({"n": 1}, id=name)
    tokens = [seen.query["insert_deduplication_token"][0] for seen in inserts(newer)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert {seen.query["input_format_parallel_parsing"][0] for seen in inserts(newer)} == {"0"}


def test_an_older_server_is_given_no_token(clickhouse: ClickHouseServer, table: str):
    """A server that does not know the setting is not asked for it, and inserts work."""
    assert (
        clickhouse.query("SELECT count() FROM system.settings WHERE name LIKE '%dedup%token'").strip() == "0"
    )
    with to(clickhouse, table=table) as c:
        assert c.send({"n": 1}).status == "ok"


def test_async_insert(newer: WebServer):
    """The server gathers, and its answer still means that the rows were written."""
    with to(newer, async_insert=True) as c:
        assert c.send({"n": 1}).status == "ok"
    assert inserts(newer)[0].query["async_insert"] == ["1"]
    assert inserts(newer)[0].query["wait_for_async_insert"] == ["1"]


def test_async_insert_on_an_older_server(clickhouse: ClickHouseServer):
    """Nothing is sent to a server that does not know it: a person must act."""
    settings = ClickHouseHandler.Connection(host=clickhouse.host, port=clickhouse.port)
    handler = ClickHouseHandler(settings, options=ClickHouseHandler.Options(async_insert=True))
    with pytest.raises(AccessError, match="does not support async_insert"):
        handler.connect()


# -- connecting ---------------------------------------------------------------------------------------------


def test_logins(clickhouse: ClickHouseServer, table: str):
    """User, password and database may stand in the URL, in its query, or in the table."""
    where = f"{clickhouse.host}:{clickhouse.port}"
    for connection in (
        {"url": f"http://shop:right@{where}/default"},
        {"url": f"http://{where}/?user=shop&password=right&database=default"},
        {"url": f"http://{where}", "username": "shop", "password": "right", "database": "default"},
    ):
        with channel("clickhouse", connection, table=table) as c:
            assert c.send({"n": 1}).status == "ok"


@pytest.mark.parametrize("user", ["shop", "nobody"])
def test_a_wrong_password(clickhouse: ClickHouseServer, user: str):
    """Wrong credentials are lost access; the error has the server's words, and not the password."""
    error = refusal(host=clickhouse.host, port=clickhouse.port, username=user, password=Secret("wr0ng-one"))
    assert isinstance(error, AccessError)
    assert user in str(error)
    assert "wr0ng-one" not in str(error)


def test_a_newer_servers_wrong_password(newer: WebServer):
    """Newer servers answer 403 and code 516."""
    text = b"Code: 516. DB::Exception: shop: Authentication failed. (AUTHENTICATION_FAILED)"
    newer.answer = lambda seen: Reply(403, text, {"X-ClickHouse-Exception-Code": "516"})
    assert isinstance(refusal(host=newer.host, port=newer.port), AccessError)


def test_tls(
    clickhouse: ClickHouseServer, table: str, fault_proxy: Callable[..., FaultProxy], tls_files: TlsFiles
):
    """Over https the server's certificate is checked against the authorities."""
    front = fault_proxy(clickhouse, tls=tls_files)
    with to(front, {"tls": {"ca_file": str(tls_files.authority)}}, table=table) as c:
        assert c.send({"n": 1}).status == "ok"
    assert [row["n"] for row in rows(clickhouse, table)] == [1]
    assert "certificate" in str(refusal(scheme="https", host=front.host, port=front.port))


def test_bodies_within_the_limit(newer: WebServer):
    """A batch goes in as many inserts as keep below max_body_bytes, and each row is in one of them."""
    with to(newer, {"max_body_bytes": 100}, compression="none") as c:
        outcomes = c.send_many([{"n": n} for n in range(40)])
    assert {outcome.status for outcome in outcomes} == {"ok"}
    bodies = [seen.body for seen in inserts(newer)]
    assert max(map(len, bodies)) <= 100
    assert len(bodies) < 10
    assert sorted(json.loads(line)["n"] for body in bodies for line in body.splitlines()) == list(range(40))


def test_uuids_and_unicode(clickhouse: ClickHouseServer, table: str):
    """Text of any kind arrives as it is."""
    name = f"Grüße, 世界 \U0001f600 \\ \" ' \t {uuid.uuid4()}"
    with to(clickhouse, table=table) as c:
        assert c.send({"n": 1, "name": name}).status == "ok"
    assert rows(clickhouse, table, "n, name, mid")[0]["name"] == name
