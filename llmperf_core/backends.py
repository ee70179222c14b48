"""The backends that are installed: entry points of the group `llmperf.targets`.

Ours come through the same door as anybody's.
"""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from llmperf_core.errors import TargetUrlError
from llmperf_core.target import Backend, CanServe, Options, Target

GROUP = "llmperf.targets"


def backends() -> Mapping[str, Backend]:
    """Return the installed backends by their entry points' names; those that fail to load are out.

    A broken third-party backend must not take the working ones with it; `broken_backends` names it.
    """
    return {
        name: loaded for name, loaded in _load_all().items() if not isinstance(loaded, Exception)
    }


def broken_backends() -> Mapping[str, str]:
    """Return what went wrong with the installed backends that cannot be loaded, by name."""
    return {
        name: f"{type(loaded).__name__}: {loaded}"
        for name, loaded in _load_all().items()
        if isinstance(loaded, Exception)
    }


def target_of(url: str, options: Options | None = None) -> Target:
    """Return the target that a URL names, from whichever backend owns its scheme.

    Raises:
        TargetUrlError: no backend knows the scheme, or the URL does not say what it needs.
        LLMPerfError: a backend raised it.
    """
    return _owner_of(url).target(url, options or Options())


def server_of(url: str) -> CanServe:
    """Return the backend that serves what a URL names.

    Raises:
        TargetUrlError: no backend knows the scheme, or the one that does cannot serve.
    """
    backend = _owner_of(url)
    if not isinstance(backend, CanServe):
        able = [f"{s}:" for b in backends().values() if isinstance(b, CanServe) for s in b.schemes]
        raise TargetUrlError(
            _without_credentials(url),
            f"it can be measured, but not served; what can: {', '.join(able) or 'nothing'}",
        )
    return backend


def _owner_of(url: str) -> Backend:
    scheme, found, rest = url.partition(":")
    scheme = scheme.lower()
    known = {
        known_scheme: backend for backend in backends().values() for known_scheme in backend.schemes
    }
    if not found or scheme not in known:
        raise TargetUrlError(_without_credentials(url), _what_is_wrong(scheme, rest, known))
    return known[scheme]


def _what_is_wrong(scheme: str, rest: str, known: Collection[str]) -> str:
    """Say why there is no backend for a URL, and what may have been meant."""
    if re.fullmatch(r"\d+(/[^@]*)?", rest):
        return f"it has no scheme; did you mean http://{scheme}:{rest}?"
    if not rest:
        return "it has no scheme; say http://HOST:PORT, or see: llmperf targets"
    broken = broken_backends()
    if scheme in broken:
        return f"its backend cannot be loaded: {broken[scheme]}"
    close = get_close_matches(scheme, known, n=1)
    hint = f"did you mean {close[0]}:?" if close else "see: llmperf targets"
    return f"no backend knows the scheme {scheme!r}; {hint}"


def _without_credentials(url: str) -> str:
    """Return a URL that nobody understands without what may be a user and a password."""
    return re.sub(r"^([^:/]*:)?(//)?.*@", r"\1\2***@", url, flags=re.DOTALL)


def _load_all() -> dict[str, Backend | Exception]:
    return {entry.name: _load(entry) for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> Backend | Exception:
    try:
        backend: Backend = entry.load()
        dict(backend.schemes)
    except Exception as error:  # noqa: BLE001 -- the import of another's module may raise anything
        return error
    return backend
