"""The tables of version 1."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations

from rambla_py.outbox.transactional.schema import drop_statements, statements


def make(apps: Any, schema_editor: Any) -> None:
    """Make the tables, in a database that may have an outbox."""
    vendor = schema_editor.connection.vendor
    for statement in statements(vendor) if vendor in ("postgresql", "sqlite") else ():
        schema_editor.execute(statement, params=None)


def drop(apps: Any, schema_editor: Any) -> None:
    """Remove the tables, and the messages in them."""
    vendor = schema_editor.connection.vendor
    for statement in drop_statements(vendor) if vendor in ("postgresql", "sqlite") else ():
        schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):  # type: ignore[misc]  # Django has no types
    """Makes the tables."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Any]] = [migrations.RunPython(make, drop)]
