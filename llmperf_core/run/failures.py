"""Names for the ways in which a request can fail. They are stable: stored runs use them.

refused  unresolved  unreachable  connect_timeout  tls      no connection came about
reset  truncated  not_http  too_large  transport            the connection broke, or the answer did
timeout_first_token  timeout_gap  timeout_whole             a deadline passed
http_429, http_500, …                                       an HTTP status that is not 200
in_band_error  malformed  empty  encoded                    an answer that is none
"""

import errno
import socket
import ssl
from collections.abc import Iterator

import httpx

from llmperf_core.timeline import Failed
from llmperf_core.wire.connection import BodyTooLargeError

_DETAIL_CHARACTERS = 200
_BY_ERRNO = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
}


def failure_of(error: Exception) -> Failed:
    """Return the named failure for what a transport raised, looking through to the first cause."""
    for cause in _causes(error):
        name = _name(cause)
        if name is not None:
            return Failed(name, detail_of(cause))
    return Failed("transport", detail_of(error))


def detail_of(error: Exception) -> str:
    """Return what the error says, on one line and shortened."""
    return (" ".join(str(error).split()) or type(error).__name__)[:_DETAIL_CHARACTERS]


def _causes(error: BaseException | None) -> Iterator[Exception]:
    """Yield the first cause first: the system's own error says more than its wrappings."""
    chain: list[Exception] = []
    while isinstance(error, Exception) and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return reversed(chain)


def _name(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return _name_of_system_error(error)
    match error:
        case httpx.ConnectTimeout():
            return "connect_timeout"
        case BodyTooLargeError():
            return "too_large"
        case httpx.RemoteProtocolError() if "closed" in str(error) or "incomplete" in str(error):
            return "truncated"
        case httpx.RemoteProtocolError():
            return "not_http"
        case _:
            return None


def _name_of_system_error(error: OSError) -> str | None:
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, socket.gaierror):
        return "unresolved"
    return _BY_ERRNO.get(error.errno or 0)
