"""Whether a model fits into the memory of GPUs: arithmetic, before anything is downloaded."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import field, frozen
from attrs.validators import and_, gt, le

from llmperf_core.decide.model_shape import ModelShape
from llmperf_core.errors import UsageError
from llmperf_core.units import MIB, format_number

Answer: TypeAlias = Literal["yes", "tight", "no"]
"""`tight`: it starts, but not all the requests asked for have room at a time, or little is left."""

CONTEXT_BYTES = 1_000 * MIB
"""What a GPU holds beside weights, KV cache and activations: the CUDA context, the kernels, the
workspaces of cuBLAS and NCCL. An estimate, on the high side: they are 500 to 1,000 MiB."""
MEMORY_FRACTION = 0.90
"""Source: text-generation-inference 3.3, TGI_WIGGLE_ROOM; vLLM's `gpu_memory_utilization`."""
TIGHT_SHARE = 0.05
"""Of the usable memory: with less than this left, the estimates above decide."""
_ACTIVATION_BYTES = 2
_RESIDUAL_TENSORS = 4
"""Tensors of the hidden size that a forward pass holds at a time: residual, norm, input, output."""


@frozen(kw_only=True)
class Quantization:
    """How the weights of the layers are stored; embeddings and norms stay in 16 bits.

    Raises:
        ValueError: a number is not positive.
    """

    name: str
    bits: float = field(validator=gt(0))
    group: int | None = None
    """Weights that share a scale; None where there is one for a row or none at all."""
    group_bytes: float = 0.0
    """What each group stores beside: its scale and its zero."""

    @property
    def bytes_per_weight(self) -> float:
        """What one weight takes, its part of the group's scale and zero included."""
        return self.bits / 8 + (self.group_bytes / self.group if self.group else 0.0)


QUANTIZATIONS: Mapping[str, Quantization] = {
    kind.name: kind
    for kind in (
        Quantization(name="none", bits=16),
        Quantization(name="fp8", bits=8),
        Quantization(name="eetq", bits=8),
        Quantization(name="bitsandbytes", bits=8),
        # A scale of 16 bits and a zero of 4 for 128 weights, which is how nearly all are stored.
        Quantization(name="gptq", bits=4, group=128, group_bytes=2.5),
        Quantization(name="awq", bits=4, group=128, group_bytes=2.5),
        # One absolute maximum of 32 bits for 64 weights.
        Quantization(name="bitsandbytes-nf4", bits=4, group=64, group_bytes=4),
        Quantization(name="bitsandbytes-fp4", bits=4, group=64, group_bytes=4),
    )
}
"""By the names that TGI's `--quantize` takes; `none` is float16 or bfloat16."""


@frozen(kw_only=True)
class Gpus:
    """The GPUs that a model is spread over, each holding an equal part of it.

    Raises:
        ValueError: a number is not positive, or the fraction is more than 1.
    """

    count: int = field(validator=gt(0))
    memory_bytes: int = field(validator=gt(0))
    """Of each."""
    fraction: float = field(default=MEMORY_FRACTION, validator=and_(gt(0), le(1)))
    """Of the memory, what the server takes."""


@frozen(kw_only=True)
class Demand:
    """What the server is to hold at a time.

    Raises:
        ValueError: a number is not positive.
    """

    concurrency: int = field(default=1, validator=gt(0))
    """Requests in flight."""
    tokens: int = field(default=2048, validator=gt(0))
    """Of each, prompt and answer together."""
    prefill_tokens: int = field(default=4096, validator=gt(0))
    """The most that one forward pass takes in."""
    kv_bits: int = field(default=16, validator=gt(0))
    """Of one number in the KV cache."""


@frozen(kw_only=True)
class Fit:
    """Whether a model fits, and why. All bytes are those of one GPU."""

    answer: Answer
    usable_bytes: float
    weights_bytes: float
    activation_bytes: float
    kv_bytes: float
    """KV cache of all the requests asked for."""
    sequences: int
    """Requests of the asked length for whose KV cache there is room."""
    why: str

    @property
    def left_bytes(self) -> float:
        """What is left of the usable memory when all asked for is in it; negative if too little."""
        needed = self.weights_bytes + self.activation_bytes + self.kv_bytes + CONTEXT_BYTES
        return self.usable_bytes - needed

    @property
    def lines(self) -> tuple[str, ...]:
        """The answer and its arithmetic, to be read."""
        return (
            f"{self.answer}: {self.why}",
            f"  usable memory of each GPU  {_gb(self.usable_bytes)}",
            f"− weights                    {_gb(self.weights_bytes)}",
            f"− activations of a prefill   {_gb(self.activation_bytes)}",
            f"− CUDA and its libraries     {_gb(CONTEXT_BYTES)}",
            f"− KV cache of the requests   {_gb(self.kv_bytes)}",
            f"= left                       {_gb(self.left_bytes)}",
        )


def _gb(size: float) -> str:
    return f"{size / 1e9:8.2f} GB"


def will_it_fit(
    model: ModelShape, quantization: str | Quantization, *, gpus: Gpus, demand: Demand
) -> Fit:
    """Return whether a model fits into the memory of GPUs that it is spread over.

    Args:
        model: its shape; see `shape_of` and `shape_from_config`.
        quantization: one of `QUANTIZATIONS`, or how the weights are stored.
        gpus: what there is.
        demand: how many requests, and how long. Where not all of them have room at a time they
            wait for each other, so this makes it tight; one must have room for it to fit.

    Raises:
        UsageError: there is no such quantization.
    """
    stored = _stored(quantization)
    weights_bytes = weight_bytes(model, stored) / gpus.count
    activation_bytes = _activation_bytes(model, demand, gpus)
    # Where there are more GPUs than heads, each still holds one.
    kv_share = max(1, -(-model.kv_heads // gpus.count)) / model.kv_heads
    sequence_bytes = model.kv_bytes_per_token(demand.kv_bits / 8) * kv_share * demand.tokens
    usable_bytes = gpus.memory_bytes * gpus.fraction
    for_kv_bytes = usable_bytes - weights_bytes - activation_bytes - CONTEXT_BYTES
    sequences = max(0, int(for_kv_bytes // sequence_bytes))
    left_bytes = for_kv_bytes - demand.concurrency * sequence_bytes
    answer, why = _answer(model, gpus, demand, sequences=sequences, left=left_bytes / usable_bytes)
    return Fit(
        answer=answer,
        usable_bytes=usable_bytes,
        weights_bytes=weights_bytes,
        activation_bytes=activation_bytes,
        kv_bytes=demand.concurrency * sequence_bytes,
        sequences=sequences,
        why=why,
    )


def weight_bytes(model: ModelShape, quantization: Quantization) -> float:
    """Return what the weights take together: the layers quantized, all else in 16 bits."""
    rest = model.parameters - model.projections
    return model.projections * quantization.bytes_per_weight + rest * 2


def _stored(quantization: str | Quantization) -> Quantization:
    if isinstance(quantization, Quantization):
        return quantization
    if quantization not in QUANTIZATIONS:
        known = ", ".join(QUANTIZATIONS)
        raise UsageError(f"no quantization {quantization!r}; there are {known}")
    return QUANTIZATIONS[quantization]


def _activation_bytes(model: ModelShape, demand: Demand, gpus: Gpus) -> float:
    """Return what the largest forward pass holds at a time; the MLP's part is spread, too."""
    width = _RESIDUAL_TENSORS * model.hidden + 2 * model.intermediate / gpus.count
    logits = demand.concurrency * model.vocabulary * 2  # of the last tokens alone, in 32 bits
    return (demand.prefill_tokens * width + logits) * _ACTIVATION_BYTES


def _answer(
    model: ModelShape, gpus: Gpus, demand: Demand, *, sequences: int, left: float
) -> tuple[Answer, str]:
    if model.heads % gpus.count:
        return "no", f"{model.heads} attention heads cannot be spread over {gpus.count} GPUs"
    if not sequences:
        return "no", f"no room for the KV cache of even one request of {demand.tokens} tokens"
    if sequences < demand.concurrency:
        why = f"room for {sequences} of {demand.concurrency} requests of {demand.tokens} tokens"
        return "tight", f"{why}; the others wait"
    room = f"room for {sequences:,} requests of {demand.tokens} tokens"
    if left < TIGHT_SHARE:
        return "tight", f"{room}, and {format_number(100 * left)} % of the memory left"
    return "yes", room
