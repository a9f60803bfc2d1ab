"""This module tests the pure parts of the handlers over HTTP: targets, headers, addresses, answers."""

from __future__ import annotations

import time
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyreqwest.exceptions import ConnectError, ConnectTimeoutError, ReadTimeoutError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
)
from rambla_py.handler import Secret
from rambla_py.handlers._http.address import address_trouble, endpoint_of, reachable_address
from rambla_py.handlers._http.answers import excerpt, refusal, retry_after_s
from rambla_py.handlers._http.client import Answer
from rambla_py.handlers._http.errors import transport_error
from rambla_py.handlers._http.settings import HttpTls
from rambla_py.handlers.clickhouse.errors import BadRowError, server_error
from rambla_py.handlers.clickhouse.settings import ClickHouseConnection
from rambla_py.handlers.http.headers import id_text, message_headers
from rambla_py.handlers.http.settings import HttpAuth, HttpConnection, HttpSignature
from rambla_py.handlers.http.target import target_of

BASE = endpoint_of("https://shop.test/in?v=1")


# -- targets ------------------------------------------------------------------------------------------------


@given(st.one_of(st.text(), st.lists(st.text(), max_size=4)))
def test_append_path_stays_below_the_path(append_path: str | list[str]):
    """Whatever is appended, the path begins with the connection's, holds what was given, and no dots."""
    try:
        target = target_of(BASE, append_path=append_path)
    except PermanentError:
        return
    path = urlsplit("https://shop.test" + target).path
    given = append_path if isinstance(append_path, list) else append_path.lstrip("/").split("/")
    wanted = ["", "in", *given] if append_path else ["", "in"]
    assert [unquote(segment) for segment in path.split("/")] == wanted
    assert not {".", ".."} & set(wanted)
    assert target.isascii()
    assert target.endswith("?v=1")


@given(st.text())
def test_merge_url_stays_on_the_server(merge_url: str):
    """Whatever is merged, it is refused or a path of the same server."""
    try:
        target = target_of(BASE, merge_url=merge_url)
    except PermanentError:
        return
    assert target.startswith("/")
    assert target.isascii()
    assert not {".", ".."} & {unquote(segment) for segment in target.partition("?")[0].split("/")}


@pytest.mark.parametrize(
    ("merge_url", "target"),
    [
        ("", "/in?v=1"),
        ("a", "/a"),
        ("/a/b?c=d", "/a/b?c=d"),
        ("?x=1", "/in?x=1"),
        ("https://shop.test/a", "/a"),
        ("https://shop.test:443/a", "/a"),
    ],
)
def test_merge_url(merge_url: str, target: str):
    """A URL is resolved as RFC 3986 has it."""
    assert target_of(BASE, merge_url=merge_url) == target


@pytest.mark.parametrize(
    "merge_url",
    [
        "http://shop.test/a",
        "https://shop.test:444/",
        "//x",
        "https://u:p@shop.test/",
        "a#b",
        "\\\\x",
        "ftp:x",
    ],
)
def test_merge_url_of_another_server(merge_url: str):
    """Another scheme, port, host or user is refused."""
    with pytest.raises(PermanentError):
        target_of(BASE, merge_url=merge_url)


@given(st.dictionaries(st.text(), st.text()))
def test_append_query_cannot_break_out(query: dict[str, str]):
    """Names and values of a query are quoted."""
    target = target_of(BASE, append_query=query)
    assert target.isascii()
    assert target.count("&") == len(query)
    assert "#" not in target
    assert " " not in target


# -- headers ------------------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_headers_are_one_line(name: str, value: str):
    """Whatever name and value are, they are refused or hold no end of line."""
    try:
        pairs = list(message_headers({name: value}))
    except PermanentError:
        return
    for text in pairs[0]:
        assert text.isascii()
        assert text == "" or text.replace("\t", " ").isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_are_kept_apart(message_id: str):
    """An id in a header is visible ASCII, and two ids are never the same there."""
    text = id_text(message_id)
    assert text.isascii()
    assert text == "" or (text.isprintable() and " " not in text)
    assert unquote(text) == message_id


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (5, "5"), (1.5, "1.5"), (True, "true"), (b"x", "x"), (None, None)]
)
def test_header_values(value: object, text: str | None):
    """Numbers and bytes become text; None leaves the header out."""
    assert dict(message_headers({"X-A": value})).get("x-a") == text


def test_header_values_that_are_none():
    """A container is no header, and the error names it."""
    with pytest.raises(PermanentError, match="got dict"):
        list(message_headers({"X-A": {}}))


# -- addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "metadata.google.internal",
        "Metadata.Google.Internal.",
    ],
)
def test_addresses_that_are_refused(host: str):
    """Link-local and metadata addresses are refused in every way to write them, and as tables too."""
    assert address_trouble(host)
    with pytest.raises(ValueError, match="allow_link_local"):
        HttpConnection(host=host)
    assert HttpConnection(host=host, allow_link_local=True).endpoint().host


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "fd12::1", "localhost"]
)
def test_addresses_that_are_fine(host: str):
    """Loopback, private and public addresses are not refused."""
    assert address_trouble(host) is None


@pytest.mark.parametrize("host", ["0xA9FEA9FE", "2852039166", "169.254.43518", "[::ffff:a9fe:a9fe]"])
def test_addresses_in_disguise(host: str):
    """What only the resolver understands is judged by what it leads to."""
    with pytest.raises((AccessError, ValueError)):
        endpoint = HttpConnection(url=Secret(f"http://{host}/latest")).endpoint()
        reachable_address(endpoint, timeout_s=0.1, allow_link_local=False)


@pytest.mark.parametrize(
    "url",
    [
        "shop.test",
        "ftp://shop.test",
        "http://",
        "http://a b/",
        "http://x:99999/",
        "http://x/\r\n",
        "http://x/#f",
    ],
)
def test_urls_that_are_none(url: str):
    """A wrong URL is refused with a text that quotes nothing of it."""
    with pytest.raises(ValueError, match="a url") as caught:
        HttpConnection(url=Secret(url))
    assert "shop" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({}, "http://localhost"),
        ({"tls": True}, "https://localhost"),
        ({"host": "::1", "port": 8080}, "http://[::1]:8080"),
        ({"scheme": "https", "host": "x", "port": 443}, "https://x"),
    ],
)
def test_the_parts_of_a_url(fields: dict, origin: str):
    """Where no url is given, its parts make one."""
    assert HttpConnection(**fields).endpoint().origin == origin


@pytest.mark.parametrize(
    "fields",
    [
        {"url": Secret("http://x"), "host": "x"},
        {"url": Secret("http://x"), "path": "/a"},
        {"path": "a"},
        {"path": "/in#part"},
        {"ping_path": "/a b"},
        {"ping_path": "/a#part"},
        {"host": "shop.test/in"},
        {"host": "me@shop.test"},
        {"scheme": "https", "host": "shop.test", "tls": HttpTls(server_name="10.0.0.5")},
        {"proxy": Secret("socks5://x")},
        {"url": Secret("http://x"), "tls": True},
        {"scheme": "http", "tls": HttpTls()},
    ],
)
def test_tables_that_contradict_themselves(fields: dict):
    """What does not fit together is refused when the configuration is read."""
    with pytest.raises(ValueError, match=r"give one of them|a path|a proxy|write https|a host|an address"):
        HttpConnection(**fields)


def test_credentials_that_contradict_themselves():
    """Either user and password, or a token; a key must be one."""
    for wrong in ({}, {"username": "a", "token": Secret("t")}):
        with pytest.raises(ValueError, match="either"):
            HttpAuth(**wrong)
    with pytest.raises(ValueError, match="base64"):
        HttpSignature(secret=Secret("whsec_*"))


@pytest.mark.parametrize("token", ["hunter2\n", "hünter2"])
def test_a_token_that_no_header_holds(token: str):
    """It is refused when the configuration is read, and not at each connect; it is not quoted."""
    with pytest.raises(ValueError, match="one line of ASCII") as caught:
        HttpAuth(token=Secret(token))
    assert "nter2" not in str(caught.value)


def test_clickhouse_ports():
    """8123 is the port, 8443 with TLS; a URL says its own."""
    assert ClickHouseConnection().endpoint().port == 8123
    assert ClickHouseConnection(tls=True).endpoint().port == 8443
    assert ClickHouseConnection(url=Secret("https://x")).endpoint().port == 443


@pytest.mark.parametrize("name", ["query", "a b", "user", "1=1&x"])
def test_clickhouse_settings_that_are_none(name: str):
    """A setting cannot be a parameter that is ours, nor break out of the query."""
    with pytest.raises(ValueError, match="settings"):
        ClickHouseConnection(settings={name: 1})


# -- answers ------------------------------------------------------------------------------------------------


def error_of(status: int, body: bytes = b"", **headers: str) -> DeliveryError | None:
    return refusal(Answer(status, headers, body, True), "POST here")


@given(st.integers(200, 599))
def test_each_status_means_one_thing(status: int):
    """2xx is a success; 401 and 407 lost access; 408, 425, 429 and 5xx are retried; all else is fatal."""
    error = error_of(status)
    if status < 300:
        assert error is None
    elif status in (401, 407):
        assert type(error) is AccessError
    elif status >= 500 or status in (408, 425, 429):
        assert type(error) is RejectedError
    else:
        assert type(error) is PermanentError


@pytest.mark.parametrize(("status", "why"), [(301, "307 and 308 alone"), (308, "off or exhausted")])
def test_a_redirect_that_was_not_followed(status: int, why: str):
    """The error says where it leads, and whether redirects could have been followed."""
    told = str(error_of(status, location="/in/"))
    assert "to /in/" in told
    assert why in told


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", None), (" 7 ", 7.0), ("-1", None), ("soon", None), ("1.5", None), ("", None), ("²", None)],
)
def test_retry_after(value: str, seconds: float | None):
    """A number of seconds is taken; none at all, and nonsense, leave it to the back-off."""
    assert retry_after_s(value, now=0.0) == seconds
    error = error_of(503, **{"retry-after": value})
    assert error is not None
    assert error.retry_after_s == seconds


def test_retry_after_a_date():
    """A date is a wait from now on; one that is over is none, or all retries would be spent at once."""
    assert retry_after_s("Thu, 01 Jan 1970 01:00:00 GMT", now=600.0) == 3000.0
    assert retry_after_s("Thu, 01 Jan 1970 01:00:00 GMT", now=9999.0) is None


@pytest.mark.parametrize(
    "value",
    ["Thu, 01 Jan 1970 00:01:00 GMT", "Thursday, 01-Jan-70 00:01:00 GMT", "Thu Jan  1 00:01:00 1970"],
)
def test_retry_after_in_each_form_of_a_date(value: str, monkeypatch: pytest.MonkeyPatch):
    """The three forms of RFC 9110 are one time, wherever this machine is."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        seconds = retry_after_s(value, now=10.0)
    time.tzset()
    assert seconds == 50.0


def test_retry_after_a_date_by_the_clock_of_the_server():
    """What a date is counted from is the answer's own: the server's clock and ours may differ."""
    error = error_of(
        429, **{"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT", "date": "Thu, 01 Jan 1970 00:01:00 GMT"}
    )
    assert error is not None
    assert error.retry_after_s == 30.0


@given(st.binary(max_size=2_000))
def test_excerpts_are_short_lines(body: bytes):
    """What a server says is shown as one line that no terminal takes for a command."""
    text = excerpt(body)
    assert len(text) <= 303
    assert text.isprintable()


def causes(*texts: str) -> dict:
    return {
        "causes": [{"message": text} for text in ("error sending request for url (http://x/s3cr3t)", *texts)]
    }


def test_tls_to_a_port_without_it():
    """The error says what is wrong with the URL."""
    error = ConnectError(
        "", causes("client error (Connect)", "received corrupt message of type InvalidContentType")
    )
    told = transport_error(error, where="shop.test", timeout_s=1)
    assert type(told) is ConnectionLostError
    assert "does not speak TLS there: is it http?" in str(told)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            ConnectError("", causes("client error (Connect)", "tcp connect error", "refused")),
            ConnectionLostError,
        ),
        (ConnectError("", causes("client error (SendRequest)", "connection reset")), UnknownOutcomeError),
        (ConnectError("", causes("client error (Connect)", "invalid peer certificate: x")), AccessError),
        (
            ConnectError("", causes("client error (SendRequest)", "fatal alert: CertificateRequired")),
            AccessError,
        ),
        (ConnectTimeoutError("", causes("client error (Connect)", "timed out")), ConnectionLostError),
        (ConnectTimeoutError("", causes("operation timed out")), UnknownOutcomeError),
        (ReadTimeoutError("", causes("operation timed out")), UnknownOutcomeError),
        (ValueError("invalid uri"), PermanentError),
    ],
)
def test_errors_of_the_transport(error: Exception, kind: type):
    """What was not sent is lost, what may have been read is unknown; the URL is quoted nowhere."""
    mapped = transport_error(error, where="http://x", timeout_s=1.0)
    assert type(mapped) is kind
    assert "s3cr3t" not in str(mapped)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (500, "Code: 27, e.displayText() = DB::Exception: Cannot parse input: (at row 3)", BadRowError),
        (401, "Code: 193, e.displayText() = DB::Exception: Wrong password", AccessError),
        (403, "Code: 516. DB::Exception: Authentication failed", AccessError),
        (404, "Code: 60, e.displayText() = DB::Exception: Table x doesn't exist.", PermanentError),
        (403, "Code: 497. DB::Exception: Not enough privileges", PermanentError),
        (500, "Code: 241. DB::Exception: Memory limit exceeded", RejectedError),
        (502, "Bad gateway", RejectedError),
        (413, "too large", BadRowError),
        (200, "", type(None)),
        (200, "Code: 1000. DB::Exception: oh", RejectedError),
    ],
)
def test_what_clickhouse_says(status: int, text: str, kind: type):
    """Codes decide where there is one, the status otherwise."""
    assert type(server_error(Answer(status, {}, text.encode(), True), "here")) is kind
