"""Names for the ways in which a request can fail. They are stable: stored runs use them.

refused  unresolved  unreachable  connect_timeout  tls      no connection came about
reset  truncated  not_http  too_large  transport            the connection broke, or the answer did
timeout_first_token  timeout_gap  timeout_whole             a deadline passed
http_429, http_500, …                                       an HTTP status that is not 200
in_band_error  malformed  empty  encoded                    an answer that is none

A codec may know its server better (`Reply.error_name`, `DecodeError.failure`, `KnowsRefusals`), and
then has names of its own.
"""

import errno
import socket
import ssl
from collections.abc import Iterator

import httpx

from llmperf_core.timeline import Failed
from llmperf_core.wire.trace import BodyTooLargeError

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
        if isinstance(error, ExceptionGroup):  # one attempt for each address of a name
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__
    return reversed(chain)


def _name(error: Exception) -> str | None:
    match error:
        case OSError():
            return _name_of_system_error(error)
        case httpx.ConnectTimeout():
            return "connect_timeout"
        case BodyTooLargeError():
            return "too_large"
        case httpx.RemoteProtocolError():
            return _name_of_broken_protocol(str(error))
        case _:
            return None


def _name_of_broken_protocol(said: str) -> str:
    """Return the name for what our wire says, or httpcore and h11, which have no types for it."""
    if "closed" in said or "incomplete" in said:
        return "truncated"
    return "reset" if "disconnected" in said else "not_http"


def _name_of_system_error(error: OSError) -> str | None:
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, socket.gaierror):
        return "unresolved"
    return _BY_ERRNO.get(error.errno or 0)
