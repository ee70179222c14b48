"""The tiny random model."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import pytest
from tokenizers import Tokenizer

from llmperf_core.errors import MissingExtraError
from llmperf_local.tiny import cached_tiny, make_tiny

pytestmark = pytest.mark.llm


def test_a_seed_always_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same seed gives the same file, another seed another."""
    first, again, other = (
        make_tiny(tmp_path / name, seed=seed).read_bytes()
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first == again
    assert first != other


def test_it_is_made_once(tmp_path: Path) -> None:
    """A folder that holds the model is left as it is."""
    model = make_tiny(tmp_path / "tiny")
    before = model.stat()
    assert make_tiny(tmp_path / "tiny") == model == tmp_path / "tiny" / "model.gguf"
    assert model.stat() == before


def test_any_number_may_make_it_at_once(tmp_path: Path) -> None:
    """All who race get the one whole model, and nothing else is left in the parent folder."""
    folder = tmp_path / "cache" / "tiny"
    with ThreadPoolExecutor(4) as pool:
        models = set(pool.map(lambda _: make_tiny(folder), range(4)))
    assert models == {folder / "model.gguf"}
    assert list(folder.parent.iterdir()) == [folder]
    assert sorted(path.name for path in folder.iterdir()) == ["model.gguf", "tokenizer.json"]
    assert (folder / "model.gguf").read_bytes() == make_tiny(tmp_path / "alone").read_bytes()


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    """Somebody's files are never replaced."""
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    with pytest.raises(OSError, match="not empty"):
        make_tiny(tmp_path)
    assert mine.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize("vocabulary", [259, 300, 2048])
def test_the_vocabulary_has_the_size_asked_for(tmp_path: Path, vocabulary: int) -> None:
    """The file and the tokenizer beside it have the same tokens, as many as were asked for."""
    model = make_tiny(tmp_path / "tiny", vocabulary=vocabulary)
    reader = gguf.GGUFReader(model)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    tokenizer = Tokenizer.from_file(str(model.with_name("tokenizer.json")))
    assert len(tokens) == vocabulary
    assert tokens == [tokenizer.id_to_token(i) for i in range(vocabulary)]


def test_a_vocabulary_without_room_for_the_bytes_is_refused(tmp_path: Path) -> None:
    """Fewer tokens than bytes and special tokens cannot be."""
    with pytest.raises(ValueError, match="at least 259: 258"):
        make_tiny(tmp_path / "tiny", vocabulary=258)
    assert not any(tmp_path.iterdir())


def test_the_tokenizer_says_any_text(tmp_path: Path) -> None:
    """What it encodes it decodes, whatever the script."""
    path = make_tiny(tmp_path / "tiny").with_name("tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    text = "Llamas: 1234 größer, ラマ 🦙\n\ttab"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_it_is_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME says where; without it, it is ~/.cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cached_tiny().is_relative_to(tmp_path / "xdg" / "llmperf")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cached_tiny().is_relative_to(tmp_path / "home" / ".cache" / "llmperf")


@pytest.mark.parametrize("module", ["gguf", "tokenizers"])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Without the extra, the error says which package is missing and how to get it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"'{module}'.*llmperf-toolkit\[cpu\]"):
        make_tiny(tmp_path / "tiny")
    assert not any(tmp_path.iterdir())
