"""The events, one struct each: the only source of columns, schemas and documentation."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

__all__ = [
    "EVENTS",
    "ApiError",
    "ApiRequest",
    "CustomEvent",
    "DatabaseConnection",
    "DatabaseQuery",
    "EmailSend",
    "Event",
    "ExternalApiCall",
    "FileOperation",
    "Payment",
    "SystemPerformance",
    "UserAuthentication",
]


_Count = Annotated[int, Meta(ge=0)] | None
_Number = Annotated[float, Meta(ge=0)] | None


def _about(text: str) -> Meta:
    return Meta(description=text)


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every event has; each subclass adds the fields of its own.

    ``EVENT`` and ``ACTION`` are the values of ``event`` and ``event_action``; ``TABLES`` are the tables that
    the event goes to unless a rule says otherwise.

    >>> row = {"id": "e-1", "event": "API Call", "timestamp": "2024-01-15T10:30:00.000Z", "status_code": 200}
    >>> msgspec.convert(row, ApiRequest).status_code
    200
    """

    EVENT: ClassVar[str] = ""
    ACTION: ClassVar[str] = ""
    CATEGORY: ClassVar[str] = "backend"
    TABLES: ClassVar[tuple[str, ...]] = ()

    id: Annotated[str, _about("the message's id, unique; the primary key")]
    event: Annotated[str, _about("name of the event")]
    event_category: Annotated[str, _about("backend, or the application's own")] = "backend"
    event_action: Annotated[str, _about("kind of the event")] = ""
    timestamp: Annotated[
        str,
        Meta(
            description="time of the call, UTC, in milliseconds: 2024-01-15T10:30:00.000Z",
            extra={"sql": "timestamptz"},
        ),
    ]
    user_id: Annotated[str | None, _about("the application's id of the user; never an e-mail address")] = None
    sample_rate: Annotated[
        float, Meta(gt=0, le=1, description="share of such events that is kept; a row counts 1 / sample_rate")
    ] = 1.0
    context: Annotated[
        dict[str, Any],
        _about("service, environment, release, host, process_id, request_id, trace_id: those that are set"),
    ] = msgspec.field(default_factory=dict)
    properties: Annotated[dict[str, Any], _about("all further fields")] = msgspec.field(default_factory=dict)


class ApiRequest(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that the application has answered."""

    EVENT: ClassVar[str] = "API Call"
    ACTION: ClassVar[str] = "api_request"
    TABLES: ClassVar[tuple[str, ...]] = ("api_events",)

    method: Annotated[str | None, _about("method of HTTP, in upper case")] = None
    path: Annotated[str | None, _about("template of the route: /items/{id}")] = None
    status_code: Annotated[_Count, _about("status of HTTP")] = None
    duration_ms: Annotated[_Number, _about("duration in milliseconds")] = None
    user_agent: Annotated[str | None, _about("User-Agent, scrubbed")] = None
    ip_address: Annotated[str | None, _about("address of the client, as the privacy settings leave it")] = (
        None
    )


class ApiError(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error of the application while it answered a request."""

    EVENT: ClassVar[str] = "API Error"
    ACTION: ClassVar[str] = "api_error"
    TABLES: ClassVar[tuple[str, ...]] = ("backend_error_events", "api_events")

    error_type: Annotated[str | None, _about("class of the exception")] = None
    error_message: Annotated[str | None, _about("text of the exception, scrubbed; no traceback")] = None
    method: Annotated[str | None, _about("method of HTTP, in upper case")] = None
    path: Annotated[str | None, _about("template of the route: /items/{id}")] = None
    status_code: Annotated[_Count, _about("status of HTTP")] = None


class DatabaseQuery(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement that a database has run."""

    EVENT: ClassVar[str] = "Database Query"
    ACTION: ClassVar[str] = "database_query"
    TABLES: ClassVar[tuple[str, ...]] = ("database_events",)

    query_type: Annotated[str | None, _about("first word of the statement: SELECT")] = None
    query_duration_ms: Annotated[_Number, _about("duration in milliseconds")] = None
    query_success: Annotated[bool | None, _about("whether it succeeded")] = None
    query_text: Annotated[str | None, _about("the statement without values; empty in doubt")] = None
    query_hash: Annotated[str | None, _about("the same for statements that differ in values only")] = None


class DatabaseConnection(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A connection to a database that was opened, closed or lost."""

    EVENT: ClassVar[str] = "Database Connection"
    ACTION: ClassVar[str] = "database_connection"
    TABLES: ClassVar[tuple[str, ...]] = ("database_events",)

    connection_action: Annotated[str | None, _about("what was done: connect, close")] = None
    connection_duration_ms: Annotated[_Number, _about("duration in milliseconds")] = None
    connection_success: Annotated[bool | None, _about("whether it succeeded")] = None


class UserAuthentication(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt of a user to log in, to log out, and the like."""

    EVENT: ClassVar[str] = "User Authentication"
    ACTION: ClassVar[str] = "user_authentication"
    TABLES: ClassVar[tuple[str, ...]] = ("authentication_events",)

    auth_action: Annotated[str | None, _about("what was done: login, logout")] = None
    user_id: Annotated[str | None, _about("the application's id of the user; never an e-mail address")] = None
    auth_success: Annotated[bool | None, _about("whether it succeeded")] = None


class Payment(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment that was processed."""

    EVENT: ClassVar[str] = "Payment Processing"
    ACTION: ClassVar[str] = "payment_processing"
    TABLES: ClassVar[tuple[str, ...]] = ("payment_events",)

    payment_action: Annotated[str | None, _about("what was done: charge, refund")] = None
    payment_amount: Annotated[
        Decimal | None, _about("exact amount, at most 29 digits before the point and 9 after it")
    ] = None
    payment_currency: Annotated[str | None, _about("code of ISO 4217, in upper case")] = None
    payment_success: Annotated[bool | None, _about("whether it succeeded")] = None


class EmailSend(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mail that was sent."""

    EVENT: ClassVar[str] = "Email Send"
    ACTION: ClassVar[str] = "email_send"
    TABLES: ClassVar[tuple[str, ...]] = ("email_events",)

    email_domain: Annotated[str | None, _about("domain of the recipient")] = None
    email_hash: Annotated[str | None, _about("HMAC of the recipient's address")] = None
    email_template: Annotated[str | None, _about("template of the mail")] = None
    email_success: Annotated[bool | None, _about("whether it succeeded")] = None


class FileOperation(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operation on a file, such as an upload."""

    EVENT: ClassVar[str] = "File Operation"
    ACTION: ClassVar[str] = "file_operation"
    TABLES: ClassVar[tuple[str, ...]] = ("file_operation_events",)

    file_operation: Annotated[str | None, _about("what was done: upload, delete")] = None
    file_type: Annotated[str | None, _about("type of the file: image/png")] = None
    file_size: Annotated[_Count, _about("size in bytes")] = None
    file_success: Annotated[bool | None, _about("whether it succeeded")] = None


class ExternalApiCall(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call to another service."""

    EVENT: ClassVar[str] = "External API Call"
    ACTION: ClassVar[str] = "external_api_call"
    TABLES: ClassVar[tuple[str, ...]] = ("external_api_events",)

    api_service: Annotated[str | None, _about("name of the service")] = None
    api_endpoint: Annotated[str | None, _about("what was called, without values of the query")] = None
    api_duration_ms: Annotated[_Number, _about("duration in milliseconds")] = None
    api_success: Annotated[bool | None, _about("whether it succeeded")] = None
    api_status_code: Annotated[_Count, _about("status of HTTP")] = None


class SystemPerformance(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample of what the process and its machine use."""

    EVENT: ClassVar[str] = "System Performance"
    ACTION: ClassVar[str] = "system_performance"
    TABLES: ClassVar[tuple[str, ...]] = ("system_performance_events",)

    cpu_percent: Annotated[_Number, _about("CPU of the process; 100 is one core")] = None
    memory_rss_bytes: Annotated[_Count, _about("resident memory in bytes")] = None
    memory_percent: Annotated[_Number, _about("share of the machine's memory")] = None
    open_files: Annotated[_Count, _about("open file descriptors")] = None
    threads: Annotated[_Count, _about("threads of the process")] = None
    load_1m: Annotated[_Number, _about("load average of the last minute")] = None


class CustomEvent(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any other event; all of its fields are in ``properties``."""

    CATEGORY: ClassVar[str] = "custom"
    ACTION: ClassVar[str] = "custom"
    TABLES: ClassVar[tuple[str, ...]] = ("custom_events",)


EVENTS: tuple[type[Event], ...] = (
    ApiRequest,
    ApiError,
    DatabaseQuery,
    DatabaseConnection,
    UserAuthentication,
    Payment,
    EmailSend,
    FileOperation,
    ExternalApiCall,
    SystemPerformance,
    CustomEvent,
)
