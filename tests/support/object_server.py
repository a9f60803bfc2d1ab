"""A small real server of two protocols: Google's XML one and Azure's Put Blob.

There is no package of an emulator of either, so this one speaks what the handler says: put, in one request or
in parts, only where nothing is, get, head; with the errors and codes that the vendors document. Requests must
be signed: by the token, or by the account's key, whose signature is computed anew. Objects are kept on disk,
so that they are there after a SIGKILL.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from rambla_py.testing.ports import HOST
from rambla_py.testing.server_process import Server

BUCKET = "events"
TOKEN = "a-token"
ACCOUNT = "shop"
ACCOUNT_KEY = base64.b64encode(b"a key of thirty-two bytes, or so").decode()
LARGEST = 40_000_000

_MODIFIED = "Sat, 21 Nov 2026 06:33:43 GMT"
_STATUS = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
}


class Stored(NamedTuple):
    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def metadata(self) -> dict[str, str]:
        marks = ("x-goog-meta-", "x-ms-meta-")
        return {
            name.removeprefix(mark): value
            for name, value in self.headers.items()
            for mark in marks
            if name.startswith(mark)
        }


class ObjectServer(Server):
    """The server in a process of its own; ``dialect`` is ``gs`` or ``az``."""

    def __init__(self, dialect: str) -> None:
        super().__init__()
        self.dialect = dialect

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the table of a connection to it."""
        if self.dialect == "gs":
            return {"url": f"gs://{BUCKET}", "endpoint": self.url, "bearer_token": TOKEN, **changes}
        login = {"account": ACCOUNT, "account_key": ACCOUNT_KEY}
        return {"url": f"az://{BUCKET}", "endpoint": self.url, **login, **changes}

    def stored(self, prefix: str = "") -> list[Stored]:
        """Return the objects below a prefix."""
        return sorted(_read(self.folder / "objects", prefix))

    def _prepare(self) -> None:
        (self.folder / "objects").mkdir()

    def _argv(self) -> Sequence[str]:
        return [sys.executable, __file__, self.dialect, str(self.port), str(self.folder / "objects")]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=1):
            return True


def _read(folder: Path, prefix: str) -> Iterator[Stored]:
    for found in folder.iterdir():
        path = unquote(found.name)
        if path.startswith(prefix) and not found.name.startswith("tmp "):
            head, _, body = found.read_bytes().partition(b"\n")
            yield Stored(path, body, json.loads(head))


class _RefusalError(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Store:
    """Objects in a folder, and parts of unfinished ones in memory."""

    def __init__(self, dialect: str, folder: Path) -> None:
        self.dialect, self.folder = dialect, folder
        self.parts: dict[str, dict[str, bytes]] = {}
        self.begun: dict[str, dict[str, str]] = {}
        self.writes = 0

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self._check_login(method, path, query, headers)
        bucket, _, name = path.lstrip("/").partition("/")
        if bucket != BUCKET:
            raise _RefusalError(404, "NoSuchBucket" if self.dialect == "gs" else "ContainerNotFound")
        if method in ("GET", "HEAD"):
            return self._get(unquote(name))
        if len(body) > LARGEST:
            raise _RefusalError(400 if self.dialect == "gs" else 413, "EntityTooLarge")
        if any(
            "-" in header.removeprefix("x-ms-meta-") for header in headers if header.startswith("x-ms-meta-")
        ):
            raise _RefusalError(400, "InvalidMetadata")
        return (self._put_gs if self.dialect == "gs" else self._put_az)(unquote(name), query, headers, body)

    def _check_login(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> None:
        given = headers.get("authorization", "")
        if self.dialect == "gs":
            if given != f"Bearer {TOKEN}":
                raise _RefusalError(401, "AuthenticationRequired")
        elif given != f"SharedKey {ACCOUNT}:{_signature(method, path, query, headers)}":
            raise _RefusalError(403, "AuthenticationFailed")

    def _put_gs(self, name: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        if "uploads" in query:
            upload = f"upload-{len(self.begun)}"
            self.begun[upload], self.parts[upload] = headers, {}
            reported = f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>k</Key><UploadId>{upload}</UploadId>"
            return 200, {}, (reported + "</InitiateMultipartUploadResult>").encode()
        if "partNumber" in query:
            self.parts[query["uploadId"]][query["partNumber"]] = body
            return 200, {"ETag": '"part"'}, b""
        if "uploadId" in query:
            parts = self.parts.pop(query["uploadId"])
            whole = b"".join(parts[number] for number in sorted(parts, key=int))
            self._write(name, whole, self.begun.pop(query["uploadId"]), once=False)
            reported = "<CompleteMultipartUploadResult><Location>l</Location><ETag>&quot;e&quot;</ETag>"
            return 200, {}, (reported + "</CompleteMultipartUploadResult>").encode()
        number = self._write(name, body, headers, once=headers.get("x-goog-if-generation-match") == "0")
        return 200, {"ETag": f'"{number}"', "x-goog-generation": str(number)}, b""

    def _put_az(self, name: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        if query.get("comp") == "block":
            self.parts.setdefault(name, {})[query["blockid"]] = body
            return 201, {}, b""
        if query.get("comp") == "blocklist":
            parts = self.parts.pop(name)
            chosen = [part.split("<")[0] for part in body.decode().split("<Uncommitted>")[1:]]
            body = b"".join(parts[block] for block in chosen)
        number = self._write(name, body, headers, once=headers.get("if-none-match") == "*")
        return 201, {"ETag": f'"{number}"', "Last-Modified": _MODIFIED}, b""

    def _write(self, name: str, body: bytes, headers: dict[str, str], *, once: bool) -> int:
        kept = self.folder / quote(name, safe="")
        if once and kept.exists():
            raise _RefusalError(412 if self.dialect == "gs" else 409, "BlobAlreadyExists")
        self.writes += 1
        unfinished = self.folder / f"tmp {self.writes}"
        unfinished.write_bytes(json.dumps(headers).encode() + b"\n" + body)
        unfinished.replace(kept)
        return self.writes

    def _get(self, name: str) -> Any:
        kept = self.folder / quote(name, safe="")
        if not kept.exists():
            raise _RefusalError(404, "NoSuchKey" if self.dialect == "gs" else "BlobNotFound")
        head, _, body = kept.read_bytes().partition(b"\n")
        reported = {n: v for n, v in json.loads(head).items() if n.startswith(("x-goog-meta", "x-ms-meta"))}
        return 200, {**reported, "ETag": '"kept"', "Last-Modified": _MODIFIED}, body


def _signature(method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> str:
    length = headers.get("content-length", "")
    named = ["content-encoding", "content-language", "", "content-md5", "content-type", "date"]
    named += ["if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"]
    values = [(length if length != "0" else "") if name == "" else headers.get(name, "") for name in named]
    marked = sorted((name, value) for name, value in headers.items() if name.startswith("x-ms-"))
    resource = f"/{ACCOUNT}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
    text = "\n".join([method, *values, *(f"{name}:{value}" for name, value in marked), resource])
    signed = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256)
    return base64.b64encode(signed.digest()).decode()


async def _serve(store: _Store, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *rest = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = first.split(" ")
            path, _, asked = target.partition("?")
            query = dict(parse_qsl(asked, keep_blank_values=True))
            try:
                status, reported, answer = store.answer(method, path, query, headers, body)
            except _RefusalError as refusal:
                status, reported = refusal.status, {}
                answer = (
                    f"<Error><Code>{refusal.code}</Code><Message>as documented</Message></Error>".encode()
                )
            lines = [f"{name}: {value}" for name, value in reported.items()]
            lines = [
                f"HTTP/1.1 {status} {_STATUS.get(status, 'No')}",
                f"Content-Length: {len(answer)}",
                *lines,
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else answer))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _main(dialect: str, port: int, folder: str) -> None:
    store = _Store(dialect, Path(folder))
    server = await asyncio.start_server(
        lambda reader, writer: _serve(store, reader, writer), HOST, port, limit=1_000_000, backlog=1000
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
