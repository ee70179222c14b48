"""A tiny Llama with random weights, made on the spot: a real model in under a second.

It speaks nonsense, in whole English words, and never ends an answer before its limit. What it is
for is a server that really decodes, at thousands of tokens a second on one core.
"""

import importlib
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc_data import topics
from types import ModuleType
from typing import TypeAlias

import numpy as np
from attrs import frozen

from llmperf_core.errors import MissingExtraError
from llmperf_local.weights import cache_folder

_Tensor: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.floating]]

_RECIPE = 1
"""Goes up with each change to what is made, so that a cached model of an older recipe is left."""

_WIDTH, _HEADS, _LAYERS, _FEED_FORWARD = 64, 1, 2, 128
_CONTEXT = 8192
_NORM_EPSILON = 1e-5

_UNKNOWN, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SPECIAL = (_UNKNOWN, _START, _END)
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LEADING_SPACE = "Ġ"
"""How a byte-level vocabulary writes the space before a word."""
_BYTES = 256


@frozen
class _Vocabulary:
    tokens: Sequence[str]
    """In order of their ids; the special ones come first."""
    merges: Sequence[str]
    tokenizer_json: str


def cached_tiny(*, seed: int = 0) -> Path:
    """Return the path of the tiny model, which is made the first time.

    It is kept in the folder `llmperf` of the user's cache: `$XDG_CACHE_HOME`, else `~/.cache`.

    Raises:
        MissingExtraError: it has to be made, and the extra `cpu` is not installed.
        OSError: it cannot be written.
    """
    # The text that the tokenizer learns from comes with Python, and differs between its versions.
    name = f"tiny-{_RECIPE}-python{platform.python_version()}-seed{seed}"
    return make_tiny(cache_folder() / name, seed=seed)


def make_tiny(folder: Path, *, seed: int = 0, vocabulary: int = 2048) -> Path:
    """Make the model in a folder of its own, unless it is there already.

    The folder appears whole or not at all, so any number of processes may make it at once. The
    same seed, vocabulary and Python version give the same bytes.

    Args:
        folder: where `model.gguf` goes, and `tokenizer.json`, the same tokenizer as Hugging Face
            writes it. Created with its parents.
        seed: of the weights.
        vocabulary: the number of tokens: at least 259, for the bytes and the special tokens.

    Returns:
        The path of `model.gguf`.

    Raises:
        ValueError: the vocabulary is too small.
        MissingExtraError: the extra `cpu` is not installed.
        OSError: the folder cannot be written, or holds something else.
    """
    if vocabulary < _BYTES + len(_SPECIAL):
        raise ValueError(f"vocabulary must be at least {_BYTES + len(_SPECIAL)}: {vocabulary}")
    model = folder / "model.gguf"
    if model.exists():
        return model
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        made = Path(work) / "model"
        made.mkdir()
        words = _train(vocabulary)
        (made / "tokenizer.json").write_text(words.tokenizer_json, encoding="utf-8")
        _write_gguf(made / "model.gguf", words, _weights(words.tokens, np.random.default_rng(seed)))
        try:
            made.replace(folder)
        except OSError:
            # Another process came first, and a folder that holds something is never replaced.
            if not model.exists():
                raise
    return model


def _extra(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError("cpu", module) from error


def _train(size: int) -> _Vocabulary:
    """Learn a byte-level BPE vocabulary, cut as llama.cpp cuts for the pre-tokenizer `smollm`."""
    hf = _extra("tokenizers")
    byte_level = hf.pre_tokenizers.ByteLevel
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Sequence(
        [hf.pre_tokenizers.Digits(individual_digits=True), byte_level(add_prefix_space=False)]
    )
    tokenizer.decoder = hf.decoders.ByteLevel()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=byte_level.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for _, text in sorted(topics.topics.items())), trainer)
    text = tokenizer.to_str()
    learnt = json.loads(text)["model"]
    return _Vocabulary(
        tokens=sorted(learnt["vocab"], key=learnt["vocab"].__getitem__),
        merges=[" ".join(pair) for pair in learnt["merges"]],
        tokenizer_json=text,
    )


def _weights(tokens: Sequence[str], rng: np.random.Generator) -> Mapping[str, _Tensor]:
    """Return the tensors under llama.cpp's names: random, but for the choice among tokens."""
    embedding = _random(rng, len(tokens), _WIDTH)
    head = _random(rng, len(tokens), _WIDTH, scale=0.5)
    # The first dimension is large for each token, and passes through the layers; in the head it
    # lifts whole words above everything else, the end of the answer included.
    embedding[:, 0] = 8.0
    head[:, 0] = [1.0 if _is_word(token) else -8.0 for token in tokens]
    tensors: dict[str, _Tensor] = {
        "token_embd.weight": embedding,
        "output_norm.weight": np.ones(_WIDTH, np.float32),
        "output.weight": head,
    }
    for layer in range(_LAYERS):
        for name, rows, columns in (
            ("attn_q", _WIDTH, _WIDTH),
            ("attn_k", _WIDTH, _WIDTH),
            ("attn_v", _WIDTH, _WIDTH),
            ("attn_output", _WIDTH, _WIDTH),
            ("ffn_gate", _FEED_FORWARD, _WIDTH),
            ("ffn_up", _FEED_FORWARD, _WIDTH),
            ("ffn_down", _WIDTH, _FEED_FORWARD),
        ):
            tensors[f"blk.{layer}.{name}.weight"] = _random(rng, rows, columns, scale=0.05)
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = np.ones(_WIDTH, np.float32)
    return tensors


def _random(
    rng: np.random.Generator, rows: int, columns: int, *, scale: float = 1.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    return (rng.standard_normal((rows, columns)) * scale).astype(np.float16)


def _is_word(token: str) -> bool:
    word = token.removeprefix(_LEADING_SPACE)
    return word != token and len(word) > 1 and word.isascii() and word.isalpha()


def _write_gguf(path: Path, words: _Vocabulary, tensors: Mapping[str, _Tensor]) -> None:
    """Write the file.

    Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    gguf = _extra("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(_NORM_EPSILON)
    writer.add_vocab_size(len(words.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words.tokens)
    kinds = gguf.TokenType
    writer.add_token_types(
        [kinds.CONTROL if token in _SPECIAL else kinds.NORMAL for token in words.tokens]
    )
    writer.add_token_merges(words.merges)
    writer.add_unk_token_id(words.tokens.index(_UNKNOWN))
    writer.add_bos_token_id(words.tokens.index(_START))
    writer.add_eos_token_id(words.tokens.index(_END))
    writer.add_add_bos_token(value=False)
    writer.add_add_space_prefix(value=False)
    writer.add_chat_template(_CHAT_TEMPLATE)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
