"""Errors of stores and their driver, mapped to those of rambla_py.

The driver's own errors are never kept, not even as a cause: their text contains whole requests.
"""

from __future__ import annotations

import errno
import html
import re
from collections.abc import Iterable

from obstore.exceptions import AlreadyExistsError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)

__all__ = ["GatewayError", "StoreTooLargeError", "is_taken", "refused", "store_error"]

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([\w.]+)\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<]{1,300})")
_SIZE = re.compile(r"<ProposedSize>\s*(\d+)")
_LIMIT = re.compile(r"<(?:MaxSizeAllowed|MaxLimit)>\s*(\d+)")
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
_ERRNO = re.compile(r"Os \{\s*code: (\d+),\s*kind: \w+,\s*message: \"([^\"]*)\"")
_METADATA_SERVICE = re.compile(
    r"/latest/(?:api/token|meta-data)|/computeMetadata/|/metadata/identity/|169\.254\.170\.2"
)

# An operator must act: no message can be delivered before.
_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "InvalidSecurity",
        "RequestTimeTooSkewed",
        "AuthorizationHeaderMalformed",
        "AuthenticationFailed",
        "AuthenticationRequired",
        "InvalidAuthenticationInfo",
        "NoAuthenticationInformation",
        "AccountIsDisabled",
        "InvalidAuthenticationToken",
    }
)
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_NO_OBJECT = frozenset({"NoSuchKey", "BlobNotFound"})
_TOO_LARGE = frozenset({"EntityTooLarge", "RequestBodyTooLarge"})
_RETRIED = frozenset({403, 404, 408, 409, 412, 425})
_UNAVAILABLE = frozenset({429, 503})
_SLOW_DOWN = frozenset({"SlowDown", "ServiceUnavailable", "ServerBusy", "TooManyRequests"})
_NO_ANSWER_FROM_BEHIND = frozenset({502, 504})
_NEVER = frozenset({501, 505})


class GatewayError(UnknownOutcomeError):
    """A gateway answered that it has no answer of the store (502, 504); the connection is sound."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, connection_lost=False)


class StoreTooLargeError(PayloadTooLargeError):
    """The store refuses objects of this size; ``size`` and ``limit`` are 0 if it does not name them."""

    def __init__(self, text: str, *, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        sizes = f" ({size or '?'} bytes, of {limit} at most)" if limit else ""
        DeliveryError.__init__(self, f"the payload is larger than the store allows{sizes}: {text}")


def is_taken(error: BaseException) -> bool:
    """Return whether a put was refused because the object already exists."""
    return isinstance(error, AlreadyExistsError)


def store_error(error: BaseException, url: str, *, probing: bool = False) -> DeliveryError | None:
    """Return the error of a failed request; None for a probe that found a working store.

    ``url`` names the store, without credentials. A refused write (403) is retried rather than taken for wrong
    credentials: rights are granted by path, and take their time to become effective.
    """
    text = str(error)
    said = f"{text.partition('Debug source')[0]}"
    if found := _STATUS.search(said):
        return _answered(int(found[1]), said, url, probing=probing)
    if "Received redirect" in said:
        return AccessError(
            f"{url}: the store answered with a redirect: is the region, or the endpoint, right?"
        )
    if kind := _KIND.search(text):
        return _unanswered(kind[1], text, url)
    if isinstance(error, FileNotFoundError) and probing:
        return None
    if found := _ERRNO.search(text):
        return _of_system(int(found[1]), found[2], url)
    return _otherwise(error, said, url)


def refused(error: BaseException, url: str, *, hidden: Iterable[str] = ()) -> AccessError:
    """Return the error of settings that no store can be made of, without the ``hidden`` strings."""
    if found := _ERRNO.search(str(error)):
        return AccessError(f"cannot open {url}: {found[2]}")
    first = str(error).partition("Debug source")[0].partition("\n")[0]
    for text in hidden:
        first = first.replace(text, "***")
    return AccessError(f"cannot open {url}: {type(error).__name__}: {_shown(first)}")


def _answered(status: int, said: str, url: str, *, probing: bool) -> DeliveryError | None:
    found, message = _CODE.search(said), _MESSAGE.search(said)
    code = found[1] if found else ""
    detail = f"{url}: {status} {code}".rstrip() + (
        f": {html.unescape(message[1]).strip()}" if message else ""
    )
    if _METADATA_SERVICE.search(said):
        return _no_credentials(url)
    if status == 401 or code in _CREDENTIALS:
        return AccessError(f"the credentials were refused: {detail}")
    if code in _NO_BUCKET:
        return AccessError(f"the bucket or container does not exist: {detail}; create it, or correct the url")
    if probing and (code in _NO_OBJECT or status == 403):
        return None
    if status == 404 and not code:
        return AccessError(f"{detail}: not the answer of an object store; is the endpoint right?")
    if status == 413 or code in _TOO_LARGE:
        return _too_large(detail, said)
    return _by_status(status, code, detail)


def _by_status(status: int, code: str, detail: str) -> DeliveryError:
    if status in _UNAVAILABLE or code in _SLOW_DOWN:
        return UnavailableError(detail)
    if status in _NO_ANSWER_FROM_BEHIND:
        return GatewayError(f"{detail}; the object may have been stored")
    if status in _RETRIED or (status >= 500 and status not in _NEVER) or code == "RequestTimeout":
        return RejectedError(detail)
    return PermanentError(detail)


def _too_large(detail: str, said: str) -> StoreTooLargeError:
    size, limit = _SIZE.search(said), _LIMIT.search(said)
    return StoreTooLargeError(detail, size=int(size[1]) if size else 0, limit=int(limit[1]) if limit else 0)


def _unanswered(kind: str, text: str, url: str) -> DeliveryError:
    if _METADATA_SERVICE.search(text.partition("Debug source")[0]):
        return _no_credentials(url)
    if _CERTIFICATE.search(text) or "CertificateRequired" in text:
        return AccessError(f"{url}: the certificate was refused: {_certificate(text)}")
    if kind == "Connect" or "Connect," in text:
        found = _ERRNO.search(text)
        what = found[2] if found else "timed out" if kind == "Timeout" else _reason(text)
        return ConnectionLostError(f"cannot connect to {url}: {what}")
    if kind == "Timeout":
        return UnknownOutcomeError(
            f"{url}: no answer within the connection's timeout_s", connection_lost=False
        )
    if "builder error" in text:
        return AccessError(f"{url}: a request cannot be built; is the endpoint right?")
    return UnknownOutcomeError(f"{url}: the connection was lost before the answer")


def _no_credentials(url: str) -> AccessError:
    return AccessError(
        f"{url}: no credentials were given, and neither the environment nor the metadata service has any"
    )


def _certificate(text: str) -> str:
    found = _CERTIFICATE.search(text)
    fault = found[1] if found else ""
    return _FAULTS.get(fault.removesuffix("Context"), fault or "the client has none that the server accepts")


def _reason(text: str) -> str:
    if "InvalidContentType" in text:
        return "the server does not speak TLS on this port; is the endpoint http://?"
    found = re.search(r'(?:error|message): "([^"\n]{1,150})"', text) or re.search(
        r'ConnectError\(\s*"([^"]+)"', text
    )
    return found[1] if found else "refused"


_FAULTS = {
    "NotValidForName": "it is for another name",
    "UnknownIssuer": "its authority is not trusted",
    "Expired": "it has expired",
    "NotValidYet": "it is not valid yet",
}
_SYSTEM_UNAVAILABLE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS}
_SYSTEM_RETRIED = {errno.EIO, errno.EACCES}


def _of_system(number: int, words: str, url: str) -> DeliveryError:
    if number in _SYSTEM_UNAVAILABLE:
        return UnavailableError(f"{url}: {words}")
    return (RejectedError if number in _SYSTEM_RETRIED else PermanentError)(f"{url}: {words}")


def _otherwise(error: BaseException, said: str, url: str) -> DeliveryError:
    if isinstance(error, FileNotFoundError):
        return AccessError(f"{url} no longer exists")
    first = _shown(said.strip().partition("\n")[0])
    if isinstance(error, ValueError | NotImplementedError):
        return PermanentError(f"{url}: {first}")
    return DeliveryError(f"{url}: {type(error).__name__}: {first}")


def _shown(text: str) -> str:
    """Return a line of the driver without what follows a question mark, as that contains signatures."""
    return re.sub(r"\?\S*", "?...", text)[:300]
