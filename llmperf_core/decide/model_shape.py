"""How large a language model is, by the numbers of its `config.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from attrs import field, frozen
from attrs.validators import ge, gt

from llmperf_core.errors import UsageError

# Decoders whose block is attention with four projections and a gated MLP with three.
_FAMILIES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "phi3")


@frozen(kw_only=True)
class ModelShape:
    """The numbers from which weights and KV cache of a decoder follow.

    Raises:
        ValueError: a number is not positive.
    """

    layers: int = field(validator=gt(0))
    hidden: int = field(validator=gt(0))
    heads: int = field(validator=gt(0))
    kv_heads: int = field(validator=gt(0))
    """Fewer than `heads` where several query heads share one (grouped-query attention)."""
    head_size: int = field(validator=gt(0))
    intermediate: int = field(validator=gt(0))
    """Width of the MLP."""
    vocabulary: int = field(validator=gt(0))
    experts: int = field(default=1, validator=gt(0))
    """MLPs of a layer; all of them are held in memory, however few of them a token uses."""
    tied: bool = False
    """The output projection is the embedding and not a matrix of its own."""
    biases: int = field(default=0, validator=ge(0))
    """Parameters of a layer's biases."""

    @property
    def projections(self) -> int:
        """Parameters of the matrices in the layers, which are what gets quantized."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate * self.experts)

    @property
    def parameters(self) -> int:
        """All parameters: projections, embeddings, norms, biases, and the gates of the experts."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        gates = self.hidden * self.experts if self.experts > 1 else 0
        in_each_layer = 2 * self.hidden + self.biases + gates
        last_norm = self.hidden
        return self.projections + embeddings + self.layers * in_each_layer + last_norm

    def kv_bytes_per_token(self, bytes_per_value: float) -> float:
        """Return what one token takes in the KV cache: a key and a value in each layer."""
        return 2 * self.layers * self.kv_heads * self.head_size * bytes_per_value


def shape_from_config(path: Path | str) -> ModelShape:
    """Return the shape that a model's `config.json` describes.

    Args:
        path: the file, or the folder that it is in.

    Raises:
        UsageError: there is none, or it is of a family whose arithmetic is not known here.
    """
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    try:
        config = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{str(file)!r} is no model's config.json: {error}") from error
    family = config.get("model_type")
    if family not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise UsageError(
            f"{str(file)!r} describes a {family!r}; give a ModelShape yourself, as only {known} "
            "are known"
        )
    try:
        return _shape(config)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{str(file)!r} lacks a number, or has a wrong one: {error}") from error


def _shape(config: Mapping[str, Any]) -> ModelShape:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_size = int(config.get("head_dim") or hidden // heads)
    # Qwen2 alone has biases on the projections of query, key and value.
    has_biases = config["model_type"] == "qwen2"
    return ModelShape(
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        intermediate=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        experts=int(config.get("num_local_experts") or 1),
        tied=bool(config.get("tie_word_embeddings", config["model_type"].startswith("gemma"))),
        biases=head_size * (heads + 2 * kv_heads) if has_biases else 0,
    )


LLAMA_2: Mapping[str, ModelShape] = {
    "7b": ModelShape(
        layers=32, hidden=4096, heads=32, kv_heads=32, head_size=128, intermediate=11008,
        vocabulary=32000,
    ),
    "13b": ModelShape(
        layers=40, hidden=5120, heads=40, kv_heads=40, head_size=128, intermediate=13824,
        vocabulary=32000,
    ),
    "70b": ModelShape(
        layers=80, hidden=8192, heads=64, kv_heads=8, head_size=128, intermediate=28672,
        vocabulary=32000,
    ),
}  # fmt: skip
"""The family of the published study.

Source: `config.json` of meta-llama/Llama-2-7b-hf, -13b-hf and -70b-hf; Touvron et al., "Llama 2:
Open Foundation and Fine-Tuned Chat Models" (2023), table 1 and section 2.2 (grouped-query attention
in the largest alone).
"""


def shape_of(model: str) -> ModelShape:
    """Return the shape of a model of the Llama 2 family by its name, or of a `config.json`.

    Raises:
        UsageError: the name is not known, and there is no such file.
    """
    name = model.lower()
    if "llama-2" in name:
        for size, shape in LLAMA_2.items():
            if f"-{size}" in name:
                return shape
    if Path(model).exists():
        return shape_from_config(model)
    raise UsageError(
        f"the shape of {model!r} is not known; give the path of its config.json, or a ModelShape"
    )
