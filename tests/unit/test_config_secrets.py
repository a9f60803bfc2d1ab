"""Tests of that secrets are found, and do not show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from config_handlers import Silent, load, problems, service
from hypothesis import given
from hypothesis import strategies as st

from rambla_py import Rambla
from rambla_py._internal.redaction import Redactor, looks_secret, redact_url
from rambla_py.config import load_config
from rambla_py.config.secrecy import secrets_in
from rambla_py.handler import Secret

CANARY = "k4n4r1-v0g3l"


def connection(**settings: Any) -> dict[str, Any]:
    table = service()
    table["connections"]["main"] |= settings
    return table


def free(**settings: Any) -> dict[str, Any]:
    return {"handler": Silent, "connections": {"main": settings}, "channels": {"orders": {}}}


@pytest.mark.parametrize(
    "table",
    [
        connection(password=CANARY),
        connection(host=f"amqp://user:{CANARY}@host/"),
        connection(urls=["amqp://host", f"amqp://user:{CANARY}@host/"]),
        free(url=f"redis://:{CANARY}@host"),
        free(url=f"redis://host/?password={CANARY}"),
        free(api_key=CANARY),
        free(auth={"token": CANARY}),
        service(options={"headers": {"Authorization": CANARY}}),
    ],
)
def test_secrets_are_collected(table: dict[str, Any]) -> None:
    """Typed secrets, passwords in URLs, and values under secret names are the configuration's secrets."""
    assert CANARY in load(audit=table).secrets


def test_short_texts_are_no_secrets() -> None:
    """A string of fewer than four characters would take half of every log line with it."""
    assert load(audit=connection(password="abc")).secrets == frozenset()


def test_what_a_file_gives_is_a_secret(tmp_path: Path) -> None:
    """The content of ``${file:...}`` is a secret wherever it is used."""
    (tmp_path / "s").write_text(CANARY, "utf-8")
    config = load(audit=service(options={"mode": "${file:" + str(tmp_path / "s") + "}"}))
    assert config.secrets == {CANARY}


def test_variable_with_a_secret_name_is_a_secret() -> None:
    """The value of ``${DB_PASSWORD}`` is a secret wherever it is used."""
    assert load({"DB_PASSWORD": CANARY}, audit=connection(host="x${DB_PASSWORD}y")).secrets == {CANARY}


ADDRESSES = [
    *(
        {"url": f"{scheme}://h1:1234/db"}
        for scheme in ("amqp", "redis", "postgresql", "mqtt", "kombu", "nats")
    ),
    *({"url": url} for url in ("https://h1", "s3://bucket/x", "amqp://h1", "sqlite:///shop.db")),
    {"urls": ["nats://h1:4222", "nats://h2:4222"]},
    {"servers": ["kafka://h1:9092"]},
]


@pytest.mark.parametrize("settings", ADDRESSES, ids=str)
def test_an_address_without_a_login_is_no_secret(settings: dict[str, Any]) -> None:
    """It was masked whole, so that status, pages and errors showed ``***`` where a connection leads."""
    (places,) = settings.values()
    typed = {name: [Secret(one) for one in places] for name in settings} if "urls" in settings else {}
    assert list(secrets_in({**settings, **typed})) == []
    assert list(secrets_in(Secret("https://hooks.example.com/T0/B0/token"), name="url")) != []
    assert list(secrets_in(Secret("amqp://h1:5672"), name="token")) != []


def test_status_shows_where_a_connection_leads() -> None:
    """With a login and without one, for settings that are secrets by their type."""
    for url in ("amqp://h1:5672/%2f", f"amqp://shop:{CANARY}@h1:5672/%2f"):
        channels = {"orders": {"connection": "main", "lazy": True}}
        with Rambla({"amqp": {"connections": {"main": {"url": url}}, "channels": channels}}) as app:
            assert app.status()["amqp.orders"].endpoint == "amqp://h1:5672/%2f"


WRONG = [
    connection(password=[CANARY]),
    connection(password=CANARY, port=f"{CANARY}"),
    connection(port=f"amqp://u:{CANARY}@h"),
    connection(port=f"amqp://u:{CANARY}/{CANARY}@h"),
    connection(tls=f"amqp://u:p@h?password={CANARY}", password=CANARY),
    service(count="${DB_PASSWORD}"),
    service(rate_limit="${DB_PASSWORD}"),
    service(overflow="${DB_PASSWORD}"),
    service(connection="${DB_PASSWORD}"),
    service(fallback="${DB_PASSWORD}"),
    service(options={"callbacks": {"on_fatal": "${DB_PASSWORD}"}}),
    service(options={"serializer": "${DB_PASSWORD}"}),
    service(options={"headers": {"authorization": [CANARY, object()]}}),
    {**free(), "handler": "${DB_PASSWORD}"},
]


@pytest.mark.parametrize("table", WRONG)
def test_no_problem_shows_a_secret(table: dict[str, Any]) -> None:
    """However wrong a configuration is, its errors show no secret."""
    found = problems({"DB_PASSWORD": CANARY}, audit=table)
    assert found
    for problem in found:
        assert CANARY not in f"{problem} {problem!r} {problem.got} {problem.hint}"


def test_secret_of_the_wrong_type_is_masked() -> None:
    """A secret that is no text, or is short, is masked where it is refused."""
    (problem,) = problems(audit=connection(password=1234567))
    assert str(problem) == "audit.connections.main.password: expected a string, got ***"


def test_override_with_a_secret_shows_its_name_only() -> None:
    """A wrong secret from the environment is named by its variable."""
    (problem,) = problems(
        {"RAMBLA__AUDIT__CONNECTIONS__MAIN__PASSWORD__X": CANARY}, audit=connection(password=CANARY)
    )
    assert CANARY not in str(problem)


def test_repr_of_a_configuration_shows_no_secret() -> None:
    """``repr`` of the configuration, and of a connection in it, shows no secret."""
    config = load(audit=connection(password=CANARY))
    assert CANARY not in repr(config) + repr(config.services["audit"].connections["main"])


def test_syntax_error_shows_no_value(tmp_path: Path) -> None:
    """A syntax error beside a secret shows the place, and not the line."""
    path = tmp_path / "x.toml"
    path.write_text(f'password = "{CANARY}" oops', "utf-8")
    with pytest.raises(Exception, match="line 1") as caught:
        load_config(path, environ={})
    assert CANARY not in str(caught.value)


@given(st.text(min_size=4), st.text(), st.text())
def test_redactor_leaves_nothing_of_a_secret(secret: str, before: str, after: str) -> None:
    """A secret in any text is masked."""
    redacted = Redactor([secret]).text(before + secret + after)
    assert secret not in redacted or secret in "***" + before + after + "***"


@pytest.mark.parametrize("form", ["p@ss/w:rd", "p%40ss%2Fw%3Ard", "p%40ss/w%3Ard"])
def test_redactor_knows_quoted_forms(form: str) -> None:
    """A secret is masked in the forms that it has in a URL too."""
    assert Redactor(["p@ss/w:rd"]).text(f"amqp://u:{form}@h") == "amqp://u:***@h"


def test_redactor_masks_the_longest_first() -> None:
    """Of two secrets, one within the other, nothing of the longer one is left."""
    assert Redactor(["pass", "password"]).text("my password") == "my ***"


@given(st.text())
def test_redactor_without_secrets_changes_nothing(text: str) -> None:
    """Without secrets every text stays as it is."""
    assert Redactor().text(text) is text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:p@h/v", "amqp://u:***@h/v"),
        ("amqp://u:p/q@h/v", "amqp://u:***@h/v"),
        ("redis://:p@h", "redis://:***@h"),
        ("http://h/?token=t&x=1", "http://h/?token=***&x=1"),
        ("amqp://h:5672/", "amqp://h:5672/"),
        ("no url at all: a@b", "no url at all: a@b"),
    ],
)
def test_url_shows_no_password(url: str, shown: str) -> None:
    """A URL keeps everything but its password."""
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "name",
    ["apiKey", "APIKey", "X-Api-Key", "Client Secret", "user[password]", "password2", "dbPwd", "aPi_KeY"],
)
def test_secret_names_are_found_in_any_style(name: str) -> None:
    """Camel case, blanks, brackets and numbers do not hide a secret name."""
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    ["routing_key", "partition_key", "tokenizer", "passive", "keys", "username", "host", "key1", "compass"],
)
def test_harmless_names_are_not_secret(name: str) -> None:
    """Names that only resemble those of secrets are none."""
    assert not looks_secret(name)
