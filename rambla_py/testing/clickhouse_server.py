"""The recipe of a private ClickHouse.

::

    with ClickHouseServer() as server:
        server.query("SELECT 1")
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.server_process import Server, ServerError

__all__ = ["ClickHouseServer"]

_PROBE_TIMEOUT_S = 2.0
_QUERY_TIMEOUT_S = 20.0


class ClickHouseServer(Server):
    """A private ClickHouse that keeps its tables over ``restart`` and ``kill``.

    ``default`` may do everything without a password; ``users`` adds others, each with a password.
    ``settings`` are those of the profile that all have.
    """

    package = "clickhouse-server"
    programs = ("clickhouse-server",)

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        config: Iterable[str] = (),
        ready_timeout_s: float = 60.0,
    ) -> None:
        super().__init__(config=config, ready_timeout_s=ready_timeout_s)
        self.users, self.settings = dict(users or {}), dict(settings or {})
        self._tcp_port, self._inter_port = free_port(), free_port()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://{self.host}:{self.port}"

    def query(self, text: str, *, database: str = "default") -> str:
        """Run a query as ``default``, return what is printed; raises ``ServerError`` with its error."""
        url = f"{self.url}/?database={quote(database)}"
        try:
            with urllib.request.urlopen(url, data=text.encode(), timeout=_QUERY_TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise ServerError(repr(self), error.read().decode(errors="replace").strip()) from None

    def _prepare(self) -> None:
        folder = self.folder
        for name in ("data", "tmp", "log", "user_files", "format_schemas"):
            (folder / name).mkdir()
        (folder / "users.xml").write_text(self._users())
        (folder / "config.xml").write_text(
            "<yandex>"
            f"<logger><level>warning</level><log>{folder}/log/server.log</log>"
            f"<errorlog>{folder}/log/error.log</errorlog></logger>"
            f"<listen_host>{HOST}</listen_host>"
            f"<http_port>{self.port}</http_port><tcp_port>{self._tcp_port}</tcp_port>"
            f"<interserver_http_port>{self._inter_port}</interserver_http_port>"
            f"<path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>"
            f"<user_files_path>{folder}/user_files/</user_files_path>"
            f"<format_schema_path>{folder}/format_schemas/</format_schema_path>"
            f"<users_config>{folder}/users.xml</users_config>"
            "<default_profile>default</default_profile><default_database>default</default_database>"
            "<mark_cache_size>67108864</mark_cache_size><max_concurrent_queries>200</max_concurrent_queries>"
            "<keep_alive_timeout>10</keep_alive_timeout><timezone>UTC</timezone>"
            f"{''.join(self.config)}</yandex>\n"
        )

    def _users(self) -> str:
        profile = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in self.settings.items())
        rest = "<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>"
        users = "".join(
            f"<{name}><password_sha256_hex>{hashlib.sha256(password.encode()).hexdigest()}"
            f"</password_sha256_hex>{rest}</{name}>"
            for name, password in self.users.items()
        )
        return (
            f"<yandex><profiles><default>{profile}</default></profiles>"
            f"<users><default><password></password>{rest}</default>{users}</users>"
            "<quotas><default><interval><duration>3600</duration><queries>0</queries><errors>0</errors>"
            "<result_rows>0</result_rows><read_rows>0</read_rows><execution_time>0</execution_time>"
            "</interval></default></quotas></yandex>\n"
        )

    def _argv(self) -> Sequence[str]:
        return [self._program("clickhouse-server"), f"--config-file={self.folder / 'config.xml'}"]

    def _environment(self) -> Mapping[str, str]:
        return {"TZ": "UTC"}

    def _answers(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/ping", timeout=_PROBE_TIMEOUT_S) as answer:
            return bool(answer.read().startswith(b"Ok"))

    def _logs(self) -> Iterable[Path]:
        return [self.folder / "server.out", self.folder / "log" / "error.log"]
