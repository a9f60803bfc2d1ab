"""The recipe of a private Mosquitto, a broker of MQTT."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence

from rambla_py.testing.ports import HOST
from rambla_py.testing.secured_server import SecuredServer

__all__ = ["MosquittoServer"]

# CONNECT of MQTT 5 without a client's name: answered by a CONNACK, also where a password is wanted.
_CONNECT = bytes.fromhex("100d00044d5154540502000a000000")
_CONNACK = 0x20


class MosquittoServer(SecuredServer):
    """A private mosquitto; retained messages are lost when it stops.

    With ``password`` the user ``somebody`` must log in. With ``tls`` it takes TLS
    only. ``config`` holds further lines of its configuration file.
    """

    package = "mosquitto"
    programs = ("mosquitto", "mosquitto_passwd")

    @property
    def url(self) -> str:
        """``mqtt://127.0.0.1:port``, or ``mqtts://`` with TLS; without credentials."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    def _prepare(self) -> None:
        lines = [f"listener {self.port} {HOST}", *self._security(), "persistence false", *self.config]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def _security(self) -> Iterable[str]:
        # As root it would become a user who cannot read its files.
        yield "user root"
        yield f"allow_anonymous {'false' if self.password else 'true'}"
        if self.password:
            passwords = self.folder / "passwords"
            argv = [self._program("mosquitto_passwd"), "-c", "-b", str(passwords), "somebody", self.password]
            subprocess.run(argv, check=True, capture_output=True)
            yield f"password_file {passwords}"
        if self.tls:
            yield f"certfile {self.tls.certificate}"
            yield f"keyfile {self.tls.key}"

    def _argv(self) -> Sequence[str]:
        return [self._program("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]

    def _answers(self) -> bool:
        with self._probe() as probe:
            probe.sendall(_CONNECT)
            answer = probe.recv(1)
            return bool(answer) and answer[0] == _CONNACK
