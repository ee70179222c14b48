"""Finding the backend of a URL among those that are installed."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmperf_core import target_of
from llmperf_core.backends import backends, broken_backends
from llmperf_core.errors import MissingExtraError, TargetUrlError
from llmperf_core.target import Options
from llmperf_core.wire.server import HttpTarget

Install = Callable[[str, str], None]

GOOD = """
from attrs import frozen

@frozen
class Echo:
    name: str
    options: object

class Backend:
    schemes = {"echo": "a server that says what it is told", "echo2": "and again"}

    def target(self, url, options):
        return Echo(url, options)

backend = Backend()
"""
BROKEN = {
    "imports-what-is-missing": "import a_module_that_nobody_has",
    "is-no-python": "def (",
    "fails-when-imported": "1 / 0",
    "lacks-the-name": "",
    "lacks-an-extra": "from llmperf_core.errors import MissingExtraError as E; raise E('x', 'y')",
    "has-no-schemes": "backend = object()",
    "has-schemes-that-are-none": "class backend: schemes = None",
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Yield what installs a backend of this name, with this source, as any wheel does."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def installed(name: str, source: str) -> None:
        (tmp_path / f"{name}_backend.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[llmperf.targets]\n{name} = {name}_backend:backend\n"
        )
        importlib.invalidate_caches()

    yield installed
    for module in set(sys.modules) - before:
        if module.endswith("_backend"):
            del sys.modules[module]


def test_http_comes_through_the_same_door() -> None:
    """Ours are entry points like anybody's."""
    assert "http" in backends()
    assert isinstance(target_of("http://127.0.0.1:8080"), HttpTarget)


def test_backend_of_a_third_party_is_found(install: Install) -> None:
    """By each of its schemes, with the options passed on."""
    install("echo", GOOD)
    options = Options(model="m")
    target = target_of("echo2:hello", options)

    assert target.name == "echo2:hello"
    assert vars_of(target)["options"] is options


def vars_of(target: object) -> dict[str, object]:
    """Return the fields of a target whose class no type checker has seen."""
    return {name: getattr(target, name) for name in ("name", "options")}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_backend_takes_no_other_with_it(install: Install, kind: str) -> None:
    """Whatever is wrong with it: the others work, and it is named with the reason."""
    install("echo", GOOD)
    install("broken", BROKEN[kind])

    assert {"http", "echo"} <= set(backends())
    assert target_of("echo:hello").name == "echo:hello"
    assert "broken" not in backends()
    assert broken_backends()["broken"]


def test_reason_names_the_error(install: Install) -> None:
    """Its type and its text, on one line."""
    install("broken", BROKEN["fails-when-imported"])

    assert broken_backends()["broken"] == "ZeroDivisionError: division by zero"


def test_scheme_of_a_broken_backend_says_why(install: Install) -> None:
    """Who names a backend that is installed but broken is told so, not that it is unknown."""
    install("broken", BROKEN["lacks-an-extra"])

    with pytest.raises(TargetUrlError, match="pip install"):
        target_of("broken:x")


def test_error_of_a_backend_comes_out_as_itself(install: Install) -> None:
    """It knows best what its URL lacks."""
    install(
        "echo",
        GOOD.replace("return Echo(url, options)", "raise E('x', 'y')")
        + "\nfrom llmperf_core.errors import MissingExtraError as E\n",
    )

    with pytest.raises(MissingExtraError):
        target_of("echo:x")


@pytest.mark.parametrize("url", ["", "model", "//127.0.0.1", "/v1", "./model.gguf"])
def test_url_without_a_scheme(url: str) -> None:
    """The message says how one looks."""
    with pytest.raises(TargetUrlError, match=r"has no scheme; .*http://HOST:PORT"):
        target_of(url)


@pytest.mark.parametrize("url", ["localhost:8080", "127.0.0.1:8080/v1", "gpu-1.lan:80"])
def test_host_and_port_without_a_scheme(url: str) -> None:
    """What most people type first: the message is what they meant."""
    with pytest.raises(TargetUrlError, match=f"has no scheme; did you mean http://{url}"):
        target_of(url)


@pytest.mark.parametrize(("url", "meant"), [("htpp://x", "http:"), ("HTTP2://x", "http")])
def test_unknown_scheme_suggests_a_known_one(url: str, meant: str) -> None:
    """A slip of the finger."""
    with pytest.raises(TargetUrlError, match=f"did you mean {meant}"):
        target_of(url)


def test_unknown_scheme_that_is_like_none() -> None:
    """The list of those that there are."""
    with pytest.raises(TargetUrlError, match="'quux'; see: llmperf targets"):
        target_of("quux:x")


def test_scheme_is_not_case_sensitive() -> None:
    """RFC 3986, 3.1."""
    assert target_of("HTTP://127.0.0.1:8080").name.lower() == "http://127.0.0.1:8080"


@pytest.mark.parametrize("url", ["htpp://me:hunter2@host", "me:hunter2@host", "quux:me:hunter2@h"])
def test_password_in_a_url_is_not_shown(url: str) -> None:
    """A URL that is refused may still hold a password that works."""
    with pytest.raises(TargetUrlError) as raised:
        target_of(url)
    assert "hunter2" not in f"{raised.value}{raised.value.args}{raised.value.url}"
