"""The program behind ``SmtpServer``: aiosmtpd on several ports, keeping what arrives.

It is given one argument, JSON: ``kept`` (the file that mails are appended to, a line of JSON each) and
``listeners``, each with ``port``, ``tls`` (``never``, ``starttls``, ``tls``), ``login`` (user, password, or
null), ``required`` (whether one must log in), ``utf8``, ``pipelining``, ``size``, ``certificate``, ``key``.

The prefix of an address selects a fault: ``mail-550-``, ``rcpt-450-``, ``data-554-`` are answered so at that
step, ``rcpt-die-`` closes the connection there, ``data-die-`` after the mail has been kept, ``data-lose-``
before it is, ``data-hang-`` never answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

HOST = "127.0.0.1"
_TROUBLE = re.compile(r"(mail|rcpt|data)-(\d{3}|die|hang|lose)-")
_TEXTS = {4: "4.7.1 try again later", 5: "5.1.1 not wanted here"}


class Keeper:
    """Keeps what arrives, with the faults that the addresses select."""

    def __init__(self, kept: Path, *, pipelining: bool) -> None:
        self.kept, self.pipelining = kept, pipelining

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer PIPELINING, which aiosmtpd supports without announcing it."""
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]] if self.pipelining else responses

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept or refuse the sender."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return await trouble(server, address, "mail") or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept or refuse the recipient."""
        refused = await trouble(server, address, "rcpt")
        if refused is None:
            envelope.rcpt_tos.append(address)
        return refused or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep or refuse the mail."""
        people = [str(envelope.mail_from), *envelope.rcpt_tos]
        asked = [found[2] for who in people if (found := _TROUBLE.match(who)) and found[1] == "data"]
        if asked and asked[0] != "die":
            return await answer(server, asked[0])
        content = envelope.original_content or b""
        line = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "options": envelope.mail_options,
            "content": b64encode(content).decode(),
            "tls": is_private(server),
            "peer": list(session.peer or ()),
            "greeting": session.host_name,
        }
        with self.kept.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return await answer(server, asked[0]) if asked else "250 2.0.0 kept"


def is_private(server: SMTP) -> bool:
    """Return whether a mail came over TLS; aiosmtpd itself notes it after STARTTLS only."""
    return server.transport is not None and server.transport.get_extra_info("ssl_object") is not None


async def trouble(server: SMTP, address: str, step: str) -> str | None:
    """Return the refusal that an address selects for this step, or None."""
    found = _TROUBLE.match(address)
    return await answer(server, found[2]) if found and found[1] == step else None


async def answer(server: SMTP, asked: str) -> str:
    """Return the selected answer, or None."""
    if asked == "hang":
        await asyncio.sleep(3600)
    if not asked.isdigit():
        assert server.transport is not None
        server.transport.abort()  # type: ignore[attr-defined]  # a transport that writes has it
        await asyncio.sleep(3600)
    return f"{asked} {_TEXTS.get(int(asked[0]), '')}"


def authenticator(login: list[str] | None) -> Any:
    """Return the authenticator."""

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        ok = login is not None and [given.login.decode(), given.password.decode()] == login
        return AuthResult(success=ok, handled=False, auth_data=given)

    return check


def context_of(table: dict[str, Any]) -> ssl.SSLContext | None:
    """Return the TLS context of a listener."""
    if table["tls"] == "never":
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(table["certificate"], table["key"])
    return context


async def listen(table: dict[str, Any], kept: Path) -> asyncio.Server:
    """Listen on one port."""
    context, keeper = context_of(table), Keeper(kept, pipelining=table["pipelining"])

    def protocol() -> SMTP:
        return SMTP(
            keeper,
            hostname="mail.test",
            ident="SMTP",
            data_size_limit=table["size"],
            enable_SMTPUTF8=table["utf8"],
            tls_context=context if table["tls"] == "starttls" else None,
            require_starttls=table["tls"] == "starttls",
            auth_required=table["required"],
            auth_require_tls=False,
            authenticator=authenticator(table["login"]),
            auth_exclude_mechanism=[] if table["login"] else ["LOGIN", "PLAIN"],
            loop=asyncio.get_running_loop(),
        )

    secure = context if table["tls"] == "tls" else None
    return await asyncio.get_running_loop().create_server(protocol, HOST, table["port"], ssl=secure)


async def main() -> None:
    """Listen on all ports until the process ends."""
    given = json.loads(sys.argv[1])
    kept = Path(given["kept"])
    kept.touch()
    os.truncate(kept, kept.read_bytes().rfind(b"\n") + 1)  # a kill may have cut the last line
    servers = [await listen(table, kept) for table in given["listeners"]]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
