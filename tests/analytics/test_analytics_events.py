"""Tests of the events' structs, and of the tables that are made from them."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import msgspec
import pytest

from rambla_py.analytics import TABLES, AnalyticsError
from rambla_py.analytics.events import EVENTS, ApiError, Event, Payment
from rambla_py.analytics.tables import fields_of, own_fields, table_options
from rambla_py.errors import RamblaError
from rambla_py.handlers.clickhouse.settings import ClickHouseOptions
from rambla_py.handlers.sql.settings import SqlOptions, table_plans

# The public schema, row by row.
SCHEMA = {
    "api_request": ("API Call", "method path status_code duration_ms user_agent ip_address", "api_events"),
    "api_error": (
        "API Error",
        "error_type error_message method path status_code",
        "backend_error_events api_events",
    ),
    "database_query": (
        "Database Query",
        "query_type query_duration_ms query_success query_text query_hash",
        "database_events",
    ),
    "database_connection": (
        "Database Connection",
        "connection_action connection_duration_ms connection_success",
        "database_events",
    ),
    "user_authentication": (
        "User Authentication",
        "auth_action user_id auth_success",
        "authentication_events",
    ),
    "payment_processing": (
        "Payment Processing",
        "payment_action payment_amount payment_currency payment_success",
        "payment_events",
    ),
    "email_send": ("Email Send", "email_domain email_hash email_template email_success", "email_events"),
    "file_operation": (
        "File Operation",
        "file_operation file_type file_size file_success",
        "file_operation_events",
    ),
    "external_api_call": (
        "External API Call",
        "api_service api_endpoint api_duration_ms api_success api_status_code",
        "external_api_events",
    ),
    "system_performance": (
        "System Performance",
        "cpu_percent memory_rss_bytes memory_percent open_files threads load_1m",
        "system_performance_events",
    ),
    "custom": ("", "", "custom_events"),
}
HEAD = ["id", "event", "event_category", "event_action", "timestamp"]
TAIL = ["user_id", "sample_rate", "context", "properties"]


def test_the_structs_are_the_public_schema() -> None:
    """Each has the name, the fields in order, and the tables of the schema."""
    found = {
        event.ACTION: (event.EVENT, " ".join(own_fields(event)), " ".join(event.TABLES)) for event in EVENTS
    }
    assert found == SCHEMA


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_fields_are_in_the_order_of_the_columns(event: type[Event]) -> None:
    """The common ones are around the event's own; each has a type and a meaning."""
    fields = fields_of(event)
    own = list(own_fields(event))
    assert list(fields) == [*HEAD, *own, *(name for name in TAIL if name not in own)]
    assert set(fields) == set(event.__struct_fields__)
    assert all(field.about and field.sql for field in fields.values())


def test_there_are_nine_tables_and_one_for_the_rest() -> None:
    """A table has the columns of all its events."""
    assert len(TABLES) == 10
    for name, table in TABLES.items():
        events = [event for event in EVENTS if name in event.TABLES]
        own = [field for event in events for field in own_fields(event)]
        own = list(dict.fromkeys(own))
        tail = [field for field in TAIL if field not in own]
        assert list(table["columns"]) == [*HEAD[1:], *own, *tail], name


@pytest.mark.parametrize("options", [SqlOptions, ClickHouseOptions])
def test_handlers_take_the_tables(options: type[SqlOptions] | type[ClickHouseOptions]) -> None:
    """``tables = "rambla_py.analytics:TABLES"`` is valid for both, with the id as the key."""
    made = options(tables="rambla_py.analytics:TABLES")
    assert list(made.tables or ()) == list(TABLES)


def test_a_row_is_keyed_by_the_id_of_its_message() -> None:
    """The plan of a table: the first column is the id; a time is bounded by an index."""
    plan = next(
        plan
        for plan in table_plans(SqlOptions(tables="rambla_py.analytics:TABLES"), "analytics")
        if plan.name == "payment_events"
    )
    assert (plan.columns[0].source, plan.unique, plan.indexes) == ("id", "id", (("timestamp",),))
    types = {column.name: column.type for column in plan.columns}
    assert (types["payment_amount"], types["timestamp"], types["properties"]) == (
        "numeric(38, 9)",
        "timestamptz",
        "json",
    )


def test_a_table_of_ones_own_has_the_common_columns() -> None:
    """Its own stand between them; ``user_id`` may be one of them."""
    columns = list(table_options({"total": "numeric(38, 9)", "user_id": "bigint"})["columns"])
    assert columns == [*HEAD[1:], "total", "user_id", "sample_rate", "context", "properties"]


def test_a_row_can_be_read_back_into_its_struct() -> None:
    """Unknown fields are refused, values checked."""
    row = {"id": "1", "event": "Payment Processing", "timestamp": "2024-01-15T10:30:00.000Z"}
    assert msgspec.convert({**row, "payment_amount": Decimal("9.99")}, Payment).payment_amount == Decimal(
        "9.99"
    )
    with pytest.raises(msgspec.ValidationError, match="status_code"):
        msgspec.convert({**row, "status_code": -1}, ApiError)
    with pytest.raises(msgspec.ValidationError, match="unknown field `colour`"):
        msgspec.convert({**row, "colour": 1}, Payment)


def test_the_error_names_the_field() -> None:
    """It is one of ours, and has the field's name as an attribute too."""
    error = AnalyticsError("expected a number", field="duration_ms")
    assert isinstance(error, RamblaError)
    assert (str(error), error.field) == ("duration_ms: expected a number", "duration_ms")
    assert (str(AnalyticsError("no tables")), AnalyticsError("no tables").field) == ("no tables", None)


LATE = [
    ("", "sqlalchemy sqlglot jinja2 pygal psutil pyreqwest", 520),
    ("analytics.Tracker('null:')", "sqlalchemy sqlglot jinja2 pygal psutil pyreqwest", 520),
    ("analytics.Tracker('sqlite:///f.db')", "sqlalchemy.orm sqlglot jinja2 pygal psutil pyreqwest", 720),
]


@pytest.mark.parametrize(("statement", "late", "most"), LATE)
def test_what_is_needed_late_is_imported_late(statement: str, late: str, most: int) -> None:
    """The libraries of the page, of statements, of samples, and of databases that are not used."""
    code = f"from rambla_py import analytics; {statement}; import sys; print(*sys.modules)".replace(
        "; ;", ";"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported = printed.stdout.split()
    assert set(late.split()).isdisjoint(imported)
    assert len(imported) < most


def test_importing_rambla_imports_no_analytics() -> None:
    """It is found only by those that name it."""
    code = "import sys, rambla_py; print([name for name in sys.modules if 'analytics' in name])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == "[]"
