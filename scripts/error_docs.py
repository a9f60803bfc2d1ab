"""The section on every error class in ``docs/troubleshooting.md``: its text, its cause, and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import rambla_py.errors as errors
from rambla_py.outcome import Outcome

__all__ = ["errors_page", "missing_errors"]

_FAILED = Outcome(
    "amqp", "orders", "fatal", "c0ffee", attempts=6, error=errors.RejectedError("quota reached")
)

ENTRIES: list[tuple[errors.RamblaError, str]] = [
    (
        errors.ConfigError(
            [
                errors.Problem(
                    "amqp.channel", "a known key", "'channel'", "rambla.toml", "did you mean 'channels'?"
                )
            ]
        ),
        "Every problem is listed, with its file. `rambla plan` reads the configuration without connecting.",
    ),
    (
        errors.NotRunningError("not started"),
        "Call `start()` once when the process starts, or publish inside `with app:`.",
    ),
    (
        errors.AlreadyRunningError("a default app is running; call rambla_py.stop() before start()"),
        "Start the default app in one place. For a second configuration, make a `Rambla` of your own.",
    ),
    (
        errors.UnknownChannelError("ordrs", ["orders"]),
        "Correct the name, or add the channel; `rambla channels` lists them.",
    ),
    (
        errors.OptionError("routing_kee", "is not known", channel="orders", known=["routing_key"]),
        "Correct the option. The page of each handler lists its options.",
    ),
    (
        errors.MailboxFullError("amqp", "orders", 100_000, waited_s=5.0),
        "Messages arrive faster than the backend takes them, or it is away: see `status()`. Set "
        "`overflow`, `fallback`, more workers (`count`), or a larger `max_pending`; "
        "in an event loop use `publish_async`.",
    ),
    (
        errors.ReceiptTimeoutError(
            5.0,
            0,
            1,
            [None],
            obstacles=["amqp.orders is connecting: ConnectionLostError: 10.0.0.7:5672: Connection refused"],
        ),
        "The message is still on its way; only the wait has ended. The error names the targets of the app "
        "with messages that cannot be attempted now; `status()` says more.",
    ),
    (
        errors.PublishError([_FAILED]),
        "Look at `error.outcomes`: each has its status, attempts and error.",
    ),
    (
        errors.TelemetryError(
            "several apps in one registry: expected a different name= for each; got '' beside 'orders'"
        ),
        'Give each app a name: `register(app, name="orders")`. It becomes the label `app`.',
    ),
    (errors.ForkedError(), "Publish in the child, and wait for that receipt."),
    (
        errors.KeptError(["01a2280c03d173b09010f605a261a980"]),
        "Nothing: the message is stored, and is delivered after the next start, or by another process.",
    ),
    (
        errors.HandlerError("kafka", "the driver is not installed: pip install 'rambla-py[kafka]'"),
        "Install the extra, or correct `handler` in the service's table.",
    ),
    (
        errors.PermanentError("status 404"),
        "The backend will never accept this message: correct it, or its destination.",
    ),
    (
        errors.SerializationError("$.order.lines[3]", "an object of type 'socket'"),
        "Convert the value at that path, or give the channel a `serializer`.",
    ),
    (
        errors.PayloadError("$.lines[3].sku", "Expected `str`, got `int`", "amqp.orders"),
        "Correct the value at that path, or the channel's `schema`.",
    ),
    (
        errors.PayloadTooLargeError(2_000_000, 1_048_576),
        "Send less, raise the server's limit, or store the data elsewhere and publish a reference to it.",
    ),
    (
        errors.UnroutableError("no queue is bound to exchange 'orders' for routing key 'created'"),
        "Create the queue and its binding, or correct `exchange` and `routing_key`; see `rambla check`.",
    ),
    (
        errors.RejectedError("status 422"),
        "It is retried. If all messages are refused, compare them with the backend's rules.",
    ),
    (
        errors.UnavailableError("status 503", scope="https://hooks.example.com/in"),
        "Nothing: messages wait, and delivery resumes by itself. `expires_s` limits the wait.",
    ),
    (
        errors.AttemptTimeoutError(30.0),
        "Find out why the backend is slow. If attempts take that long by nature, raise `attempt_timeout_s`.",
    ),
    (
        errors.ExpiredError(60.0, 0, "ConnectionLostError: amqp at db:5672: connection refused"),
        "The last error says what kept it. A longer `expires_s` or a `fallback` bridges an outage.",
    ),
    (
        errors.DroppedError("mailbox full"),
        'The reason says why. `overflow = "block"` waits instead; `stop()` with more time delivers more.',
    ),
    (
        errors.ConnectionLostError("redis at cache:6379: the server closed the connection"),
        "It is tried again by itself. If it keeps happening, look at the server and the network.",
    ),
    (
        errors.AccessError("amqp at db:5672: ACCESS_REFUSED: login was refused"),
        "Correct the credentials, the rights or the certificate; it is tried again every 30 s.",
    ),
    (
        errors.StartError(
            "the external server redis of redis.orders ended with code 1 before it was ready",
            "run its command by hand to see why",
        ),
        "Correct what the target needs, an external server or the handler's `__init__`; it is tried again "
        "every 30 s.",
    ),
    (
        errors.UnknownOutcomeError(),
        'The message is sent again unless `on_unknown = "report"`: let the receiver discard a repeated id.',
    ),
]


def errors_page() -> str:
    """Return the section, one part for each class, in the order of the tree."""
    return "\n".join(_parts())


def missing_errors() -> list[str]:
    """Return the classes of the tree that no entry shows."""
    known = {type(error) for error, _ in ENTRIES}
    public = (getattr(errors, name) for name in errors.__all__)
    return [
        kind.__name__
        for kind in public
        if inspect.isclass(kind)
        and issubclass(kind, errors.RamblaError)
        and kind not in known
        and kind not in (errors.RamblaError, errors.DeliveryError)
    ]


def _parts() -> Iterator[str]:
    for error, to_do in ENTRIES:
        kind = type(error)
        yield f"### {kind.__name__}\n"
        yield f"```text\n{error}\n```\n"
        yield f"{' '.join(_cause(kind).split())}\n"
        yield f"**What to do.** {to_do}\n"


def _cause(kind: type[errors.RamblaError]) -> str:
    """Return the first paragraph of a class's docstring, as Markdown."""
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("``", "`")
