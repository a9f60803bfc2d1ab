"""Opening and testing the store of a connection."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from rambla_py._internal.named_objects import Named
from rambla_py.errors import AccessError, ConnectionLostError, DeliveryError
from rambla_py.handler import Secret
from rambla_py.handlers.objects.errors import refused, store_error
from rambla_py.handlers.objects.settings import ObjectsSettings

__all__ = ["check_store", "forget", "memory_store", "missing_folder", "open_store"]

_PROBE = ".rambla-ping"

_memory: Named[MemoryStore] = Named(lambda name: MemoryStore())


def memory_store(name: str) -> MemoryStore:
    """Return the store of the connections to ``memory://name`` in this process, created if needed.

    It outlives the app, until ``forget(name)``.

    >>> memory_store("shelf") is memory_store("shelf")
    True
    """
    return _memory.get(name)


def forget(name: str) -> None:
    """Drop the store in memory of this name; its objects are freed with the last reference."""
    _memory.forget(name)


class _Runtime:
    """The process that the driver's threads belong to: they do not survive a fork."""

    pid: int | None = None

    def enter(self) -> None:
        if self.pid is None:
            self.pid = os.getpid()
        elif self.pid != os.getpid():
            raise AccessError(
                f"obstore was in use in process {self.pid} before this one was forked from it; it cannot be "
                "used here: publish to object stores only after the fork, or start processes with 'spawn'"
            )


_runtime = _Runtime()


def open_store(settings: ObjectsSettings, *, retries: int = 0) -> Any:
    """Return the store; raises ``AccessError`` for settings that cannot work. Sends nothing.

    The driver sends a request that failed up to ``retries`` times more, within ``timeout_s``.
    """
    place = settings.place
    if place.scheme == "memory":
        return _memory.of(settings)
    _runtime.enter()
    problem: DeliveryError
    try:
        return _BUILDERS[place.scheme](settings, retries)
    except OSError as error:
        why = error.strerror or type(error).__name__
        problem = AccessError(f"cannot open {place.url}: {why} ({error.filename})")
    except Exception as error:
        problem = refused(error, settings.where, hidden=settings.secrets)
    # Outside of the except clause: the driver's error must not be the context.
    raise problem


def check_store(settings: ObjectsSettings, store: Any) -> None:
    """Raise ``AccessError`` or ``ConnectionLostError`` if puts could not succeed.

    It sends a GET of an object that does not exist, which also works with credentials that may only write.
    """
    place = settings.place
    if place.scheme == "memory":
        return
    if place.scheme == "file":
        _check_folder(Path(place.root))
        return
    problem: DeliveryError | None = None
    try:
        obstore.get(store, _PROBE)
    except Exception as error:
        problem = store_error(error, settings.where, probing=True)
    if isinstance(problem, ConnectionLostError):
        raise problem
    if problem is not None:
        raise ConnectionLostError(str(problem))


def missing_folder(settings: ObjectsSettings) -> bool:
    """Whether the store is a folder that does not exist; raises ``AccessError`` if it cannot be created."""
    place = settings.place
    folder = Path(place.root)
    if place.scheme != "file" or folder.exists():
        return False
    _check_folder(next(parent for parent in folder.parents if parent.exists()))
    return True


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise AccessError(f"file://{folder} is not a folder, or no longer exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AccessError(f"file://{folder} cannot be written to by this user")


def _s3(settings: ObjectsSettings, retries: int) -> S3Store:
    place = settings.place
    style = settings.path_style if settings.path_style is not None else settings.endpoint is not None
    config = _given(
        endpoint=settings.endpoint_url,
        region=settings.region,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key,
        session_token=settings.session_token,
        skip_signature=settings.anonymous or None,
        virtual_hosted_style_request=False if style else None,
    )
    return S3Store(place.root, **_common(settings, retries), **config)


def _gs(settings: ObjectsSettings, retries: int) -> GCSStore:
    config = _given(
        base_url=settings.endpoint_url,
        bearer_token=settings.bearer_token,
        service_account=settings.service_account_file,
        service_account_key=settings.service_account_key,
        skip_signature=settings.anonymous or None,
    )
    return GCSStore(settings.place.root, **_common(settings, retries), **config)


def _az(settings: ObjectsSettings, retries: int) -> AzureStore:
    config = _given(
        account_name=settings.account,
        endpoint=settings.endpoint_url,
        account_key=settings.account_key,
        sas_key=settings.sas_token,
        token=settings.bearer_token,
        skip_signature=settings.anonymous or None,
    )
    return AzureStore(settings.place.root, **_common(settings, retries), **config)


def _file(settings: ObjectsSettings, retries: int) -> LocalStore:
    return LocalStore(settings.place.root, mkdir=True)


_BUILDERS: dict[str, Any] = {"s3": _s3, "gs": _gs, "az": _az, "file": _file}


def _common(settings: ObjectsSettings, retries: int) -> dict[str, Any]:
    """Return what all stores over HTTP take."""
    further = {name: secret.reveal() for name, secret in settings.store_options.items()}
    return {
        "prefix": settings.place.prefix or None,
        "client_options": _client(settings),
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=settings.timeout_s)},
        **further,
    }


def _client(settings: ObjectsSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "timeout": timedelta(seconds=settings.timeout_s),
        "pool_max_idle_per_host": str(settings.concurrency),
    }
    if (settings.endpoint_url or "").startswith("http://"):
        options["allow_http"] = True
    if settings.tls.ca_file is not None:
        options["root_certificate"] = Path(settings.tls.ca_file).read_bytes()
    if not settings.tls.verify:
        options["allow_invalid_certificates"] = True
    if settings.proxy is not None:
        options["proxy_url"] = settings.proxy.reveal()
    return options


def _given(**config: str | Secret | bool | None) -> dict[str, Any]:
    given = {key: value for key, value in config.items() if value is not None}
    return {key: _plain(value) for key, value in given.items()}


def _plain(value: str | Secret | bool) -> str | bool:
    return value.reveal() if isinstance(value, Secret) else value
