"""Errors for what the operating system raises."""

from __future__ import annotations

import errno

from rambla_py.errors import AccessError, ConnectionLostError, DeliveryError, UnavailableError

__all__ = ["file_error"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}


def file_error(error: OSError) -> DeliveryError:
    """Return the delivery error for one of the operating system's; its text holds no payload data.

    >>> file_error(OSError(errno.ENOSPC, "No space left on device"))
    UnavailableError('[Errno 28] No space left on device')
    """
    if error.errno in _FULL:
        return UnavailableError(str(error))
    return AccessError(str(error)) if error.errno in _REFUSED else ConnectionLostError(str(error))
