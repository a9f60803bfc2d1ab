"""Connection table and channel options of the ``objects`` handler."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rambla_py._internal.tls import TlsTable, refuse_keys
from rambla_py._internal.urls import split_url
from rambla_py.handler import Secret, per_channel, routing, secret_text
from rambla_py.handlers._record import Shape
from rambla_py.handlers.objects.template import template_of
from rambla_py.handlers.objects.urls import Place, place_of

__all__ = ["METADATA_NAME", "ObjectsSettings", "ObjectsOptions"]

METADATA_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_OF_ITS_OWN = {
    "content-type": "content_type",
    "content-encoding": "compression",
    "content-disposition": "content_disposition",
    "content-language": "content_language",
    "cache-control": "cache_control",
    "storage-class": "storage_class",
}
_OURS = frozenset({"prefix", "config", "bucket", "client_options", "retry_config", "credential_provider"})
_MIB = 1024 * 1024


class ObjectsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """The table of an ``objects`` connection: a URL, and what its store needs to be reached.

    >>> ObjectsSettings(url="gs://events/daily", bearer_token=Secret("hunter2")).bearer_token
    ***
    """

    url: Annotated[
        str,
        Meta(
            description="s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///folder "
            "(created if missing), or memory://name (memory:// for a store that only this app sees)"
        ),
    ]
    endpoint: Annotated[
        str | None, Meta(description="http(s)://host:port of a store that is not the vendor's")
    ] = None
    region: Annotated[str | None, Meta(description="s3: the region; by default AWS_REGION, or us-east-1")] = (
        None
    )
    access_key_id: Annotated[str | None, Meta(description="s3: the key's name")] = None
    secret_access_key: Annotated[Secret | None, Meta(description="s3: the key's secret")] = None
    session_token: Annotated[Secret | None, Meta(description="s3: the token of temporary credentials")] = None
    account: Annotated[str | None, Meta(description="az: the storage account")] = None
    account_key: Annotated[Secret | None, Meta(description="az: the account's key, base64")] = None
    sas_token: Annotated[Secret | None, Meta(description="az: a shared access signature")] = None
    bearer_token: Annotated[Secret | None, Meta(description="gs, az: an OAuth token")] = None
    service_account_file: Annotated[
        str | None, Meta(description="gs: the JSON file of a service account")
    ] = None
    service_account_key: Annotated[
        Secret | None, Meta(description="gs: the JSON of a service account itself")
    ] = None
    anonymous: Annotated[bool, Meta(description="true: use no credentials")] = False
    path_style: Annotated[
        bool | None,
        Meta(description="s3: the bucket in the path, not in the host; by default true with an endpoint"),
    ] = None
    store_options: Annotated[
        dict[str, Secret],
        Meta(description="further settings of obstore's store by its names (sse_kms_key_id, role_arn ...)"),
    ] = {}
    tls: Annotated[TlsTable, Meta(description="how TLS is done, with an endpoint of https://")] = TlsTable()
    proxy: Annotated[Secret | None, Meta(description="URL of an HTTP proxy")] = None
    connect_timeout_s: Annotated[float, Meta(gt=0, le=1e9, description="limit for connecting")] = 5.0
    timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="limit for each request, which is one part of a large object")
    ] = 20.0
    concurrency: Annotated[int, Meta(ge=1, le=512, description="puts in flight for one worker")] = 64
    part_bytes: Annotated[
        int,
        Meta(
            ge=5 * _MIB,
            description="larger objects are sent in parts of this size, or a 10,000th if that is more",
        ),
    ] = 8 * _MIB
    max_object_bytes: Annotated[
        int | None,
        Meta(ge=1, description="the store's limit: larger objects are fatal, larger batches are split"),
    ] = None

    def __post_init__(self) -> None:
        unused = ("cert_file", "key_file", "server_name")
        refuse_keys(self.tls, *unused, reason="the stores take no client certificate and no other name")
        place = place_of(self.url)
        _check_fields(self, place)
        if self.endpoint is not None:
            _check_endpoint(self.endpoint)
        if self.proxy is not None:
            _check_proxy(self.proxy.reveal())

    @property
    def place(self) -> Place:
        """Where objects go."""
        return place_of(self.url)

    @property
    def endpoint_url(self) -> str | None:
        """The endpoint with its host in ASCII, as the driver is given it."""
        if self.endpoint is None:
            return None
        parts = split_url(self.endpoint, ("http", "https"), "http://host:port")
        host = f"[{parts.host}]" if ":" in parts.host else parts.host
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "") + parts.path

    @property
    def where(self) -> str:
        """The store's name in errors: the URL, and the endpoint, which may be what is wrong."""
        return self.place.url if self.endpoint is None else f"{self.place.url} at {self.endpoint}"

    @property
    def secrets(self) -> list[str]:
        """The strings that must never show."""
        fields = [getattr(self, name) for name in self.__struct_fields__]
        return [secret.reveal() for secret in (*fields, *self.store_options.values()) if _is_secret(secret)]

    @property
    def name(self) -> str | None:
        """The name of a store in memory; None for one that only this app sees."""
        return self.url.partition("://")[2].partition("/")[0] or None


def _is_secret(value: object) -> bool:
    return isinstance(value, Secret) and bool(value)


_IN_HEADERS = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "account",
    "account_key",
    "sas_token",
    "bearer_token",
)
_FOR: Mapping[str, tuple[str, ...]] = {
    "region": ("s3",),
    "access_key_id": ("s3",),
    "secret_access_key": ("s3",),
    "session_token": ("s3",),
    "path_style": ("s3",),
    "account": ("az",),
    "account_key": ("az",),
    "sas_token": ("az",),
    "bearer_token": ("gs", "az"),
    "service_account_file": ("gs",),
    "service_account_key": ("gs",),
    "endpoint": ("s3", "gs", "az"),
    "proxy": ("s3", "gs", "az"),
}


def _check_fields(settings: ObjectsSettings, place: Place) -> None:
    for name, schemes in _FOR.items():
        if getattr(settings, name) is not None and place.scheme not in schemes:
            meant = " and ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"{name} is for {meant}, and the url is {place.scheme}://")
    for name in _IN_HEADERS:
        value = secret_text(getattr(settings, name))
        if value is not None and not is_header(value):
            raise ValueError(f"{name} has a line break, a space or another character that it cannot contain")
    if place.scheme == "az" and settings.account is None:
        raise ValueError("az:// needs the account")
    taken = sorted(_OURS.intersection(settings.store_options))
    if taken:
        raise ValueError(f"store_options with {', '.join(taken)}, which have their own keys")
    if (settings.access_key_id is None) != (settings.secret_access_key is None):
        raise ValueError("access_key_id and secret_access_key go together; give both or none")


def _check_proxy(proxy: str) -> None:
    try:
        split_url(proxy, ("http", "https", "socks5", "socks5h"), "http://user:password@host:port")
    except ValueError as error:
        raise ValueError(f"a proxy with {error}") from None


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = split_url(endpoint, ("http", "https"), "http://host:port or https://host:port")
    except ValueError as error:
        raise ValueError(f"an endpoint with {error}") from None
    if parts.username is not None or parts.query:
        raise ValueError("an endpoint that is not http://host:port or https://host:port")


class ObjectsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of an ``objects`` channel.

    >>> ObjectsOptions(path="{date:%Y/%m/%d}/{id}.json", if_none_match=True).id_field
    'id'
    """

    path: Annotated[
        str,
        routing(
            "the object's path below the url, a template: {id}, {key}, {date:%Y/%m/%d} (UTC, "
            "when publish accepted it), {channel}, {service}, {payload.NAME}; at most 1,024 bytes",
            min_length=1,
        ),
    ] = "{id}"
    file: Annotated[
        str | None,
        Meta(
            description="a file whose content is the object; the payload then serves only the path; for one "
            "message only below files_from"
        ),
    ] = None
    files_from: Annotated[
        str | None,
        per_channel("the folder that a message's file must be in, and that its name is relative to"),
    ] = None
    content_type: Annotated[
        str | None, Meta(description="the media type; by default that of the payload, or of the file's name")
    ] = None
    content_disposition: Annotated[str | None, Meta(description="what browsers do with the object")] = None
    content_language: Annotated[str | None, Meta(description="the language of the object")] = None
    cache_control: Annotated[str | None, Meta(description="how long caches may keep the object")] = None
    storage_class: Annotated[str | None, Meta(description="s3, gs, az: the storage class or tier")] = None
    metadata: Annotated[dict[str, str], Meta(description="further metadata of the object")] = {}
    tags: Annotated[dict[str, str], Meta(description="s3, az: the object's tags")] = {}
    id_field: Annotated[str, Meta(description='the metadata field for the message\'s id; "" for none')] = "id"
    if_none_match: Annotated[
        bool,
        Meta(
            description="true: never overwrite; an object of the same message is a success, another is fatal"
        ),
    ] = False
    body_format: Annotated[
        Literal["single", "ndjson"],
        per_channel("an object for each message, or one of JSON lines for each batch"),
    ] = "single"
    record: Annotated[
        Shape,
        per_channel("ndjson: a line is the payload, or 'full': payload, id, key, headers, origin"),
    ] = "payload"
    compression: Annotated[
        Literal["none", "gzip"] | None,
        per_channel("how objects are compressed; by default gzip for ndjson, none for single"),
    ] = None

    def __post_init__(self) -> None:
        names = template_of(self.path).names
        if self.body_format == "ndjson":
            if "id" not in names:
                raise ValueError(f"the path {self.path!r} without {{id}}: batches would share an object")
            if self.file is not None:
                raise ValueError("file with body_format = 'ndjson': a file is always one object")
        _check_metadata(self.metadata, self.id_field)
        for name in (
            "content_type",
            "content_disposition",
            "content_language",
            "cache_control",
            "storage_class",
        ):
            value = getattr(self, name)
            if value is not None and not is_header(value):
                raise ValueError(f"{name} with characters that an HTTP header cannot hold")

    @property
    def reads_payload(self) -> bool:
        """Whether the path contains a part of the payload."""
        return any(name.startswith("payload.") for name in template_of(self.path).names)

    @property
    def packs(self) -> bool:
        """Whether objects are compressed."""
        return self.compression == "gzip" or (self.compression is None and self.body_format == "ndjson")


def is_header(value: str) -> bool:
    """Return whether a string fits an HTTP header: printable ASCII, no space at either end."""
    return value.isascii() and value.isprintable() and value == value.strip()


def check_names(names: Iterable[str]) -> None:
    """Raise ``ValueError`` for a name that is not allowed in metadata, or that has its own option."""
    for name in names:
        if not METADATA_NAME.fullmatch(name):
            raise ValueError(f"the metadata name {name[:60]!r}: letters, digits, '_', '-' and '.' only")
        if name.lower() in _OF_ITS_OWN:
            raise ValueError(f"the metadata name {name!r}: use the option {_OF_ITS_OWN[name.lower()]}")


def _check_metadata(metadata: Mapping[str, str], id_field: str) -> None:
    check_names([*metadata, *([id_field] if id_field else [])])
    lowered = [name.lower() for name in metadata]
    if id_field.lower() in lowered:
        raise ValueError(
            f"the metadata has {id_field!r}, which is the field for the message's id; choose another id_field"
        )
    if len(set(lowered)) < len(lowered):
        raise ValueError("the metadata has a name twice, in upper and lower case")
