"""Contract tests of the smtp handler, on a real relay behind a fault proxy."""

from __future__ import annotations

import email
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from proxied_contract import KilledContract

from rambla_py.message import Message
from rambla_py.serialization.encoding import encode
from rambla_py.testing import CANARY, FaultProxy, Received, Server, SmtpServer


class TestSmtp(KilledContract):
    """Each message is a mail; a payload that is no mapping is its text, which ends with a line's end."""

    handler = "smtp"

    @pytest.fixture(autouse=True)
    def _server(
        self, smtp_server: SmtpServer, fault_proxy: Callable[[Server], FaultProxy], unique_name: str
    ) -> None:
        self.server, self.proxy = smtp_server, fault_proxy(smtp_server)
        self.recipient = f"{unique_name[-40:].strip('-')}@example.com"

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port)

    def options(self) -> dict[str, Any]:
        return {"to": self.recipient, "subject": "Orders"}

    def payload(self, number: int) -> dict[str, Any]:
        return {"text": f"order {number}"}

    def takes(self, payload: Any) -> bool:
        if isinstance(payload, dict):
            return "text" in payload
        return not isinstance(payload, bytes) or payload.isascii()

    def arrives_as(self, payload: Any) -> bytes:
        text = payload["text"].encode() if isinstance(payload, dict) else encode(payload)
        return text + b"\n" if text else b""

    def is_result(self, result: Any) -> bool:
        return bool(result.reply.startswith("250") and not result.refused)

    def received(self) -> list[Received]:
        return [_received(mail.content) for mail in self.server.mails(self.recipient)]

    def unserializable(self) -> tuple[Any, str]:
        return {"text": "hello", "attachments": [{"content": object()}]}, "$.attachments[0].content"

    def poison(self) -> Message:
        return Message({"text": "poison", "to": "rcpt-550-nobody@example.com"})

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {
            "relay": host,
            "port": port,
            "tls": "never",
            "from": "Shop <shop@example.com>",
            "connect_timeout_s": 0.5,
        }

    def impatient(self) -> dict[str, Any]:
        return {**super().impatient(), "read_timeout_s": 2.0}  # longer than an attempt, shorter than a test

    def wrong_password(self) -> dict[str, Any]:
        return {**self.connection(), "username": self.server.username, "password": CANARY}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.at(host, port), "username": self.server.username, "password": CANARY}

    def wrong_name(self) -> dict[str, Any]:
        assert self.server.tls is not None
        authority = str(self.server.tls.authority)
        tls = {"mode": "starttls", "ca_file": authority, "server_name": "elsewhere.invalid"}
        return {**self.at(self.server.host, self.server.starttls_port), "tls": tls}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return self.at(self.server.host, self.server.bare_port), {"text": "order\n" * 5_000}


def _received(content: bytes) -> Received:
    mail = email.message_from_bytes(content)
    text: Any = mail.get_payload(decode=True)
    return Received(text.replace(b"\r\n", b"\n"), unquote(mail["Message-ID"].strip("<>").partition("@")[0]))
