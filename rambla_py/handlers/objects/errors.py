"""This module maps what a store or its driver reports to the errors of rambla_py.

The driver's own errors never travel along, not even as a cause: their text shows requests in full.
"""

from __future__ import annotations

import errno
import html
import re
from collections.abc import Iterable

from obstore.exceptions import AlreadyExistsError

from rambla_py.errors import (
    AccessError,
    AttemptTimeoutError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
)

__all__ = ["NoAnswerError", "PutTimeoutError", "StoreTooLargeError", "is_taken", "refused", "store_error"]

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

# A person has to put these right: no message can pass before.
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
_FOR_NOW = frozenset({403, 404, 408, 409, 412, 425, 429})


class NoAnswerError(UnknownOutcomeError):
    """The store did not answer in time; whether the put took effect is unknown."""


class PutTimeoutError(AttemptTimeoutError):
    """The same, of a put that was slow while others were answered: only its own attempt is given up."""

    def __init__(self, told: str) -> None:
        DeliveryError.__init__(self, told)


class StoreTooLargeError(PayloadTooLargeError):
    """The store says that it takes no object as large; ``size`` and ``limit`` are 0 where it did not tell."""

    def __init__(self, told: str, *, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        sizes = f" ({size or '?'} bytes, of {limit} at most)" if limit else ""
        DeliveryError.__init__(self, f"the payload is larger than the store takes{sizes}: {told}")


def is_taken(error: BaseException) -> bool:
    """Say whether a put was refused because there is an object already."""
    return isinstance(error, AlreadyExistsError)


def store_error(error: BaseException, url: str, *, probing: bool = False) -> DeliveryError | None:
    """Return the error that a failed request stands for; None for a probe that found a store that answers.

    ``url`` names the store, without credentials. A refused write (403) is retried rather than taken as wrong
    credentials: rights are given by path, and take their time to become known.
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
    """Return the error of a store that could not even be made from its settings, without the ``hidden``."""
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
        return AccessError(f"the bucket or container is not there: {detail}; create it, or correct the url")
    if probing and (code in _NO_OBJECT or status == 403):
        return None
    if status == 404 and not code:
        return AccessError(f"{detail}: that is no answer of an object store; is the endpoint right?")
    if status == 413 or code in _TOO_LARGE:
        return _too_large(detail, said)
    if status >= 500 or status in _FOR_NOW or code in ("RequestTimeout", "SlowDown"):
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
        return NoAnswerError(f"{url}: no answer within the connection's timeout_s")
    if "builder error" in text:
        return AccessError(f"{url}: a request that cannot be built; is the endpoint right?")
    return UnknownOutcomeError(f"{url}: the connection was lost before the answer")


def _no_credentials(url: str) -> AccessError:
    return AccessError(
        f"{url}: no credentials were given, and the environment and the machine's metadata service have none"
    )


def _certificate(text: str) -> str:
    found = _CERTIFICATE.search(text)
    fault = found[1] if found else ""
    return _FAULTS.get(fault.removesuffix("Context"), fault or "this side has none that the server takes")


def _reason(text: str) -> str:
    if "InvalidContentType" in text:
        return "it does not speak TLS there; is the endpoint http://?"
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
_SYSTEM_FOR_NOW = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.EACCES,
    errno.EROFS,
}


def _of_system(number: int, words: str, url: str) -> DeliveryError:
    kind = RejectedError if number in _SYSTEM_FOR_NOW else PermanentError
    return kind(f"{url}: {words}")


def _otherwise(error: BaseException, said: str, url: str) -> DeliveryError:
    if isinstance(error, FileNotFoundError):
        return AccessError(f"{url} is no longer there")
    first = _shown(said.strip().partition("\n")[0])
    if isinstance(error, ValueError | NotImplementedError):
        return PermanentError(f"{url}: {first}")
    return DeliveryError(f"{url}: {type(error).__name__}: {first}")


def _shown(text: str) -> str:
    """Return a line of the driver's without what follows a question mark, where signatures stand."""
    return re.sub(r"\?\S*", "?...", text)[:300]
