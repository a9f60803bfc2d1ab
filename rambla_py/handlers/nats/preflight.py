"""What would make every message of a subject fail, found out without publishing one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.errors import NotFoundError, ServiceUnavailableError

if TYPE_CHECKING:
    from nats.aio.client import Client

    from rambla_py.handler import Preflight
    from rambla_py.handlers.nats.settings import NatsOptions

__all__ = ["look"]


async def look(
    client: Client, options: NatsOptions, channel: str, report: Preflight, timeout_s: float
) -> None:
    """Look for the stream of the channel's subject."""
    subject = options.subject or channel
    report.not_checked(f"the right to publish to subject {subject!r}")
    if not options.jetstream:
        return
    try:
        stream = await client.jetstream(timeout=timeout_s).find_stream_name_by_subject(subject)
    except NotFoundError:
        report.problem(
            f"no stream has the subject {subject!r}",
            hint=f"create one: nats stream add --subjects {subject}, or set jetstream = false",
        )
    except (NoRespondersError, ServiceUnavailableError):
        report.problem("JetStream is not enabled", hint="enable it in the server, or set jetstream = false")
    except (NatsError, TimeoutError) as error:
        report.not_checked(f"whether a stream has the subject {subject!r}: {type(error).__name__}")
    else:
        if options.stream not in (None, stream):
            report.problem(
                f"subject {subject!r} is stored by stream {stream!r}, not by {options.stream!r}",
                hint="correct the option stream, or the subjects of the streams",
            )
