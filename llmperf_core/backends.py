"""The backends that are installed: entry points of the group `llmperf.targets`.

Ours come through the same door as anybody's.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from llmperf_core.errors import LLMPerfError, TargetUrlError
from llmperf_core.target import Backend, Options, Target

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
    scheme, found, _ = url.partition(":")
    if not found:
        raise TargetUrlError(url, "it has no scheme; say http://HOST:PORT, or see: llmperf targets")
    known = {
        known_scheme: backend for backend in backends().values() for known_scheme in backend.schemes
    }
    if scheme not in known:
        close = get_close_matches(scheme, known, n=1)
        hint = f"did you mean {close[0]}:?" if close else "see: llmperf targets"
        raise TargetUrlError(url, f"no backend knows the scheme {scheme!r}; {hint}")
    return known[scheme].target(url, options or Options())


def _load_all() -> dict[str, Backend | Exception]:
    return {entry.name: _load(entry) for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> Backend | Exception:
    try:
        backend: Backend = entry.load()
    except (ImportError, AttributeError, LLMPerfError) as error:
        return error
    return backend
