"""What a backend and its targets owe, beside what their codecs do."""

import re
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from unittest import mock

import cloudpickle
import httpx

from llmperf_core.errors import TargetUrlError
from llmperf_core.target import Backend, Options, Prompt, Target

_PROMPT = Prompt(text="Write of llamas", max_new_tokens=17)


def require(met: bool, rule: str) -> None:  # noqa: FBT001 -- as `assert` has it
    """Raise AssertionError with the rule if it is not met; also where Python drops `assert`."""
    if not met:
        raise AssertionError(rule)


def check_backend(
    backend: Backend, url: str, *, options: Options | None = None, refuses: Sequence[str] = ()
) -> None:
    """Hold a backend to what it owes before anything is started.

    Args:
        backend: what the entry point yields.
        url: a target that it understands.
        options: what is said of the target beside its URL.
        refuses: URLs that it must refuse with TargetUrlError.

    Raises:
        AssertionError: the backend does otherwise.
    """
    schemes = dict(backend.schemes)
    require(bool(schemes), "a backend has at least one URL scheme")
    for scheme, line in schemes.items():
        well_formed = re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) is not None
        require(well_formed, f"{scheme!r} is no URL scheme: lower case, without the colon")
        require(bool(line) and line.isprintable(), f"scheme {scheme!r} has one line about it")
    require(url.partition(":")[0] in schemes, f"the scheme of {url!r} is one of the backend's")
    given = options or Options()
    with _nothing_reached():
        first, second = backend.target(url, given), backend.target(url, given)
        for bad in refuses:
            _refuse(backend, bad, given)
    require(first.name == second.name, "the same URL gives a target of the same name")
    require(bool(first.name) and first.name.isprintable(), "a target has a name, of one line")


async def check_target(target: Target) -> None:
    """Open a target twice, and hold its endpoint to what it owes. What it starts is started.

    Raises:
        AssertionError: the target does otherwise.
        TargetError: it could not be brought up or reached.
    """
    name = target.name
    for _ in range(2):
        async with target.open() as endpoint:
            url = httpx.URL(endpoint.base_url)
            absolute = url.scheme in {"http", "https"} and bool(url.host)
            require(absolute, f"{endpoint.base_url!r} is an absolute URL of http or https")
            require(not endpoint.base_url.endswith("/"), "a codec's path begins with the slash")
            travelled = cloudpickle.loads(cloudpickle.dumps(endpoint))  # of our own making
            same = travelled.codec.request(_PROMPT) == endpoint.codec.request(_PROMPT)
            require(same, "an endpoint travels to another process and asks there as here")
        require(target.name == name, "the name of a target stays, whatever happens")


def _refuse(backend: Backend, url: str, options: Options) -> None:
    try:
        backend.target(url, options)
    except TargetUrlError:
        return
    raise AssertionError(f"{url!r} must be refused with TargetUrlError")


def _nothing_reached() -> ExitStack:
    """Return a context in which whoever reaches for another process or host is caught."""

    def caught(*_: object, **__: object) -> None:
        raise AssertionError("`target()` is pure: nothing is started or reached before `open()`")

    stack = ExitStack()
    for place, name in (
        (socket.socket, "connect"),
        (socket, "getaddrinfo"),
        (subprocess.Popen, "__init__"),
    ):
        stack.enter_context(mock.patch.object(place, name, caught))
    return stack
