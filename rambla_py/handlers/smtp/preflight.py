"""What would make every mail of a channel fail, found out without sending one."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from rambla_py.handlers.smtp.errors import masked
from rambla_py.handlers.smtp.login import open_smtp, where_of
from rambla_py.handlers.smtp.settings import SmtpOptions, SmtpSettings, configured_addresses

if TYPE_CHECKING:
    from rambla_py.handler import Preflight

__all__ = ["look"]


def look(settings: SmtpSettings, options: SmtpOptions, report: Preflight) -> None:
    """Begin a mail with the configured sender and recipients, and take it back before its content."""
    found = configured_addresses(options, settings)
    senders = found.get("return_path") or found.get("sender") or found.get("from") or []
    recipients = [box for name in ("to", "cc", "bcc") for box in found.get(name, ())]
    if not recipients:
        report.not_checked("whether the relay accepts the recipients: payloads name them")
    if not senders:
        report.not_checked("whether the relay accepts the sender: payloads name it")
        return
    with closing(open_smtp(settings)) as smtp:
        where = where_of(settings)
        if not _accepted(smtp.mail(senders[0].address), f"{where}: the sender was refused", report):
            return
        for number, recipient in enumerate(recipients, 1):
            what = f"{where}: recipient {number} of {len(recipients)} was refused"
            if not _accepted(smtp.rcpt(recipient.address), what, report) and not options.partial:
                break
        smtp.rset()
        smtp.quit()


def _accepted(reply: tuple[int, bytes], what: str, report: Preflight) -> bool:
    code, text = reply
    if 200 <= code < 300:
        return True
    said = masked(f"{code} {text.decode(errors='replace')}")
    if 400 <= code < 500:
        report.not_checked(f"whether the relay accepts the mail: it answered {said}")
    else:
        report.problem(f"{what}: {said}", hint="correct the address, or the relay's rights for this login")
    return False
