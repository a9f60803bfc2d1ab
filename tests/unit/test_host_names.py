"""Tests of host names and addresses in their ASCII form."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py._internal.host_names import address_of, ascii_host, embedded_ipv4


def _wide(text: str) -> str:
    """Return the full-width forms of ASCII characters, which UTS 46 maps back."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


@pytest.mark.parametrize(
    ("host", "ascii_form"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com."),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("XN--FA-HIA.de", "xn--fa-hia.de"),
        ("my_service-1", "my_service-1"),
        ("a。b", "a.b"),
        (_wide("localhost"), "localhost"),
        ("[::1]", "::1"),
        ("FE80::0001", "fe80::1"),
    ],
)
def test_hosts_in_ascii(host: str, ascii_form: str):
    """Names become lower-case A-labels without the transitional mapping; addresses are compressed."""
    assert ascii_host(host) == ascii_form


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.43518",
        "169.16689662",
        "2852039166",
        "0xa9fea9fe",
        "0XA9.0xFE.0xA9.0xFE",
        "0251.0376.0251.0376",
        "025177524776",
        _wide("169") + ".254.169.254",
        "①⑥⑨.254.169.254",
        "169。254。169。254",
        "169.254.169.254.",
    ],
)
def test_every_form_of_an_ipv4_address(host: str):
    """Each form that resolvers accept becomes the same four decimal numbers."""
    assert ascii_host(host) == "169.254.169.254"


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        "a b",
        "a%2eb",
        "a/b",
        "user@host",
        "-a.example",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.0x1ffffffff",
        "09.1.1.1",
        "shop.1",
        "xn--0.example",
        "☃.example",
        "a\udcff.example",
        "x" * 64,
        ".".join(["x" * 60] * 5),
        "::1::",
        "a\u2024\u2024b",
    ],
)
def test_what_is_no_host(host: str):
    """What is neither a name nor an address is refused, and the error quotes nothing of it."""
    with pytest.raises(ValueError, match=r"^a host|^an internationalized") as refused:
        ascii_host(host)
    assert len(host) < 3 or host not in str(refused.value)


@given(st.text(max_size=30))
def test_ascii_hosts_are_stable(host: str):
    """Whatever is given is refused with a ValueError, or its ASCII form is its own ASCII form."""
    try:
        found = ascii_host(host)
    except ValueError:
        return
    assert found.isascii()
    assert ascii_host(found) == found


@given(st.ip_addresses(v=4))
def test_ipv4_addresses_as_numbers(address: ipaddress.IPv4Address):
    """The integer, hexadecimal and octal forms of an address are recognized as that address."""
    for form in (str(int(address)), hex(int(address)), f"0{int(address):o}"):
        assert address_of(ascii_host(form)) == address


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "2001:db8::5efe:169.254.169.254",
        "2001:db8::200:5efe:169.254.169.254",
        "2001:0:a9fe:a9fe::1",
        "2001:0:102:304:0:0:5601:5601",
    ],
)
def test_ipv4_addresses_inside_ipv6(address: str):
    """Mapped, compatible, translated and tunnelled addresses reveal the IPv4 address in them."""
    assert ipaddress.ip_address("169.254.169.254") in embedded_ipv4(ipaddress.ip_address(address))
    assert embedded_ipv4(ipaddress.ip_address("::1")) == []
    assert embedded_ipv4(ipaddress.ip_address("2001:db8::1")) == []
