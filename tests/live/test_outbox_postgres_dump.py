"""A PostgreSQL outbox that was dumped with ``pg_dump`` and read into another database."""

from __future__ import annotations

import subprocess
from pathlib import Path

from outbox_databases import Database
from outboxes import Backend, running, table_of

from rambla_py import Rambla
from rambla_py.testing.databases import PostgresServer
from rambla_py.testing.processes import find_program


def program(name: str) -> str:
    """Return a client program, which comes with the server."""
    found = find_program(name, *PostgresServer.folders)
    assert found is not None
    return found


def test_a_dump_is_used_as_it_is(empty_postgres: Database, tmp_path: Path) -> None:
    """The relays of both databases deliver what was in the dump, with the same ids."""
    url = empty_postgres.url
    with Rambla(table_of(tmp_path, Backend().handler(), {"url": url, "deliver": False})) as app:
        app.publish_many("orders", range(5), key="k")
    dumped = subprocess.run([program("pg_dump"), "--no-owner", url], check=True, capture_output=True)
    name = f"{url.rpartition('/')[2]}_copy"
    other = Database("postgresql", f"{url}_copy")
    empty_postgres.query(f"CREATE DATABASE {name}")
    try:
        command = [program("psql"), "-q", "-v", "ON_ERROR_STOP=1", other.url]
        subprocess.run(command, input=dumped.stdout, check=True, stdout=subprocess.DEVNULL)
        seen: list[Backend] = []
        for database in (empty_postgres, other):
            backend = Backend()
            seen.append(backend)
            with running(table_of(tmp_path, backend.handler(), {"url": database.url})) as app:
                app.publish("orders", 5, key="k").result(20)
                assert app.outbox.audit().balanced
    finally:
        empty_postgres.query(f"DROP DATABASE {name} WITH (FORCE)")
    assert seen[0].received == seen[1].received == [0, 1, 2, 3, 4, 5]
    assert seen[0].ids[:5] == seen[1].ids[:5]
