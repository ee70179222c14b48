"""What a run was measured with: enough to doubt a comparison, and nothing private."""

import json
import os
import platform
import socket
from pathlib import Path

import pytest

from llmperf_core import __version__
from llmperf_core.run import environment as module
from llmperf_core.run.environment import environment


def test_it_says_what_a_comparison_needs() -> None:
    """Versions, processor, system, and who stamps; all of it plain JSON."""
    found = environment()

    assert found["llmperf"] == __version__
    assert found["stamps"] == "kernel"
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert platform.python_version() in str(found["python"])
    packages = found["packages"]
    assert isinstance(packages, dict)
    assert {"httpx", "numpy", "uvloop"} <= set(packages)
    assert json.loads(json.dumps(found)) == found


def test_it_names_neither_the_host_nor_anything_of_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A result can be shown to anybody."""
    monkeypatch.setenv("PLANTED", "planted-7f3a9c")
    said = json.dumps(environment())

    assert "planted" not in said.lower()
    assert socket.gethostname() not in {said, *said.split('"')}


def test_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As uvloop is on Windows."""
    monkeypatch.setattr(module, "_RECORDED", ("httpx", "a-package-that-nobody-has"))

    assert list(environment()["packages"]) == ["httpx"]  # type: ignore[arg-type]


def test_processor_is_what_the_system_says_where_proc_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Other systems have no /proc, and some processors no name in it."""
    nameless = tmp_path / "cpuinfo"
    nameless.write_text("processor: 0\n")
    for path in (nameless, tmp_path / "missing"):
        monkeypatch.setattr(module, "Path", lambda _, path=path: path)
        assert environment()["processor"] == platform.processor()
