"""Paths without their values, exclusions, and addresses behind proxies."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.middleware.clients import ClientAddresses
from rambla_py.analytics.middleware.paths import OTHER, Exclusions, PathMasks, masked


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("/items/17", "/items/{id}"),
        ("/items/17/", "/items/{id}/"),
        ("/orders/74d514ad-a0be-420d-87be-2cfb0b55787a", "/orders/{id}"),
        ("/orders/74d514ada0be420d87be2cfb0b55787a/lines", "/orders/{id}/lines"),
        ("/c/9f86d081884c7d65", "/c/{id}"),
        ("/c/9f86d081884c7d6", "/c/9f86d081884c7d6"),
        ("/reset/" + "x" * 33, "/reset/{id}"),
        ("/reset/" + "x" * 32, "/reset/" + "x" * 32),
        ("/shop;jsessionid=A1B2/cart", "/shop/cart"),
        ("/shop?token=abc", "/shop"),
        ("/wp-login.php", "/wp-login.php"),
        ("*", "*"),
        ("", ""),
        ("/x" * 256, "/x" * 256),
        ("/x" * 257, OTHER),
        ("/a/" + "x" * 1_000, "/a/{id}"),
        ("http://user:secret@shop.example/x", OTHER),
    ],
)
def test_variable_segments_are_masked(path: str, expected: str) -> None:
    """Digits, UUIDs, hexadecimal digits and long segments give way to a name."""
    assert masked(path) == expected


@given(st.integers(min_value=0), st.uuids())
def test_identifiers_never_stay_in_a_path(number: int, uuid: object) -> None:
    """Whatever the value, the path is the same."""
    assert masked(f"/a/{number}/b/{uuid}") == "/a/{id}/b/{id}"


def test_distinct_paths_are_limited() -> None:
    """Beyond the limit new paths are ``(other)``, known ones stay; also when threads ask at once."""
    masks = PathMasks(limit=100)

    def ask(thread: int) -> None:
        for number in range(200):
            masks.mask(f"/page-{thread}-{number}")

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {masks.mask(f"/page-{thread}-{number}") for thread in range(4) for number in range(200)}
    assert len(found - {OTHER}) == 100
    assert OTHER in found


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/health", "/health", True),
        ("/health", "/healthz", False),
        ("/health*", "/health/live", True),
        ("/health*", "/", False),
        ("/*/health", "/v1/health", True),
        ("/v?/x*", "/v1/xyz", True),
        ("/v?/x", "/v12/x", False),
        ("*", "/anything", True),
    ],
)
def test_excluded_paths_may_hold_wildcards(pattern: str, path: str, expected: bool) -> None:
    """Asterisks and question marks mean what they mean in a shell."""
    assert Exclusions(["/metrics", pattern]).match(path) is expected
    assert not Exclusions().match(path)


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("203.0.113.9", "1.2.3.4", "203.0.113.9"),  # not a proxy of ours: the header is ignored
        ("10.0.0.7", "9.9.9.9, 198.51.100.5", "198.51.100.5"),
        ("10.0.0.7", "9.9.9.9, 198.51.100.5, 10.0.0.8", "198.51.100.5"),
        ("10.0.0.7", "198.51.100.5:4711", "198.51.100.5"),
        ("10.0.0.7", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.7", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.7", "::ffff:198.51.100.5", "198.51.100.5"),
        ("::ffff:10.0.0.7", "198.51.100.5", "198.51.100.5"),
        ("10.0.0.7", "9.9.9.9, unknown", "10.0.0.7"),
        ("10.0.0.7", "9.9.9.9, <script>, 10.0.0.8", "10.0.0.7"),
        ("10.0.0.7", "10.0.0.8", "10.0.0.7"),
        ("10.0.0.7", "", "10.0.0.7"),
        ("testclient", "1.2.3.4", "testclient"),
        (None, "1.2.3.4", None),
    ],
)
def test_forwarded_addresses_count_behind_trusted_proxies_only(
    peer: str | None, header: str, expected: str | None
) -> None:
    """The rightmost address that is no proxy of ours is the client's; garbage leaves the peer's."""
    clients = ClientAddresses(["10.0.0.0/8"])
    assert clients.address(peer, [header] if header else []) == expected
    assert clients.address(peer, [header] if header else []) == expected  # the peer is known by now


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("for=9.9.9.9, for=198.51.100.5;proto=https", "198.51.100.5"),
        ('proto=https;For="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=_hidden", "10.0.0.7"),
        ("proto=https", "10.0.0.7"),
    ],
)
def test_forwarded_is_read_without_x_forwarded_for(header: str, expected: str) -> None:
    """The standard header counts where the older one is absent."""
    assert ClientAddresses(["10.0.0.0/8"]).address("10.0.0.7", [], [header]) == expected


def test_lines_of_a_header_are_one_list() -> None:
    """A proxy may append a line of its own."""
    clients = ClientAddresses(["10.0.0.0/8"])
    assert clients.address("10.0.0.7", ["9.9.9.9", "198.51.100.5", "10.1.1.1"]) == "198.51.100.5"


def test_a_peer_on_a_unix_socket_may_be_trusted() -> None:
    """Servers behind a proxy on the same machine see no address of it."""
    assert ClientAddresses(["unix"]).address(None, ["198.51.100.5"]) == "198.51.100.5"
    assert ClientAddresses(["unix"]).address("", ["198.51.100.5"]) == "198.51.100.5"


def test_a_network_that_is_none_is_refused() -> None:
    """The error names it."""
    with pytest.raises(AnalyticsError, match=r"trusted_proxies: expected .* got '10\.0\.0\.0/99'"):
        ClientAddresses(["10.0.0.0/99"])
