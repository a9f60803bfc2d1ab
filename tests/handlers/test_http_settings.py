"""Tests of the tables of the handlers over HTTP: addresses, URLs, credentials."""

from __future__ import annotations

import pytest

from rambla_py._internal.tls import TlsTable
from rambla_py.errors import (
    AccessError,
)
from rambla_py.handler import Secret
from rambla_py.handlers._http.address import address_problem, endpoint_of, reachable_address
from rambla_py.handlers.clickhouse.settings import ClickHouseSettings
from rambla_py.handlers.http.settings import HttpAuth, HttpOptions, HttpSettings, HttpSignature


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
    assert address_problem(host.lower())
    with pytest.raises(ValueError, match="allow_link_local"):
        HttpSettings(host=host)
    assert HttpSettings(host=host, allow_link_local=True).endpoint().host


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "fd12::1", "localhost"]
)
def test_addresses_that_are_fine(host: str):
    """Loopback, private and public addresses are not refused."""
    assert address_problem(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "0xA9FEA9FE",
        "2852039166",
        "169.254.43518",
        "0251.0376.0251.0376",
        "\uff11\uff16\uff19.254.169.254",
        "169\u3002254\u3002169\u3002254",
        "[::ffff:a9fe:a9fe]",
        "[::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2001:db8::5efe:a9fe:a9fe]",
        "metadata\u3002google.internal",
        "\uff4detadata.google.internal",
    ],
)
def test_addresses_in_other_notations(host: str):
    """Each notation of a refused address is refused when the configuration is read."""
    with pytest.raises(ValueError, match="allow_link_local"):
        HttpSettings(url=Secret(f"http://{host}/latest"))


def test_international_host_names():
    """Requests go to the A-labels of a host, and so does the name that its certificate must have."""
    settings = HttpSettings(
        url=Secret("https://fa\u00df.example/in"), tls=TlsTable(server_name="B\u00fccher.example")
    )
    assert settings.endpoint().origin == "https://xn--fa-hia.example"
    assert settings.server_name() == "xn--bcher-kva.example"


def test_resolved_addresses_are_checked():
    """A name that resolves to a refused address is an access error."""
    endpoint = endpoint_of("http://shop.test")._replace(host="169.254.169.254")
    with pytest.raises(AccessError, match="link-local"):
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
    """A wrong URL is refused, and the error quotes nothing of it."""
    with pytest.raises(ValueError, match="a url") as caught:
        HttpSettings(url=Secret(url))
    assert "shop" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({"host": "localhost"}, "http://localhost"),
        ({"host": "localhost", "tls": True}, "https://localhost"),
        ({"host": "::1", "port": 8080}, "http://[::1]:8080"),
        ({"scheme": "https", "host": "x", "port": 443}, "https://x"),
    ],
)
def test_the_parts_of_a_url(fields: dict, origin: str):
    """Where no url is given, its parts make one."""
    assert HttpSettings(**fields).endpoint().origin == origin


@pytest.mark.parametrize(
    "fields",
    [
        {"url": Secret("http://x"), "host": "x"},
        {"url": Secret("http://x"), "path": "/a"},
        {},
        {"path": "/in"},
        {"host": "x", "path": "a"},
        {"host": "x", "path": "/in#part"},
        {"host": "x", "ping_path": "/a b"},
        {"host": "x", "ping_path": "/a#part"},
        {"host": "shop.test/in"},
        {"host": "me@shop.test"},
        {"scheme": "https", "host": "shop.test", "tls": TlsTable(server_name="10.0.0.5")},
        {"host": "x", "proxy": Secret("socks5://x")},
        {"url": Secret("http://x"), "tls": True},
        {"host": "x", "scheme": "http", "tls": TlsTable()},
    ],
)
def test_tables_that_contradict_themselves(fields: dict):
    """What does not fit together is refused when the configuration is read."""
    with pytest.raises(ValueError, match=r"give one of them|a path|a proxy|write https|a host|an address"):
        HttpSettings(**fields)


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
    assert ClickHouseSettings(host="x").endpoint().port == 8123
    assert ClickHouseSettings(host="x", tls=True).endpoint().port == 8443
    assert ClickHouseSettings(url=Secret("https://x")).endpoint().port == 443


@pytest.mark.parametrize("name", ["query", "a b", "user", "1=1&x"])
def test_clickhouse_settings_that_are_none(name: str):
    """A setting cannot be a parameter that is ours, nor break out of the query."""
    with pytest.raises(ValueError, match="settings"):
        ClickHouseSettings(host="x", settings={name: 1})


def test_a_status_with_two_meanings():
    """A status cannot be both unavailable and refused access; what is no failure cannot be either."""
    with pytest.raises(ValueError, match="status 503 in both"):
        HttpOptions(unavailable_statuses=[503], access_statuses=[503])


def test_clickhouse_parameters_in_the_url():
    """A parameter that the handler does not know is refused when the configuration is read."""
    with pytest.raises(ValueError, match="compress"):
        ClickHouseSettings(url=Secret("http://x/?compress=1"))
