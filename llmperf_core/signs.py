"""What a server's log says of how its bring-up goes, and of why it failed."""

import re
from collections.abc import Iterable, Sequence

from attrs import frozen

# Colours and what else moves a terminal's cursor. Source: ECMA-48, 5.4 (control sequences).
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*\s+")


@frozen
class Phase:
    """A step of a bring-up, and the log line that begins it."""

    pattern: str
    name: str


@frozen
class Failure:
    """A way to fail: its sign in a log or in an engine's error, what it means, what to do."""

    pattern: str
    cause: str
    advice: str


def plain(line: str) -> str:
    """Return a log line without colours, control characters and the time in front of it."""
    return _TIME.sub("", _CONTROL.sub("", line).strip())


def phase_of(line: str, phases: Sequence[Phase]) -> str | None:
    """Return the phase that a log line begins; None if it begins none."""
    return next((phase.name for phase in phases if re.search(phase.pattern, line)), None)


def failure_in(lines: Iterable[str], failures: Sequence[Failure]) -> Failure | None:
    """Return the first failure of the list that a line shows; the list goes from sure to vague."""
    text = "\n".join(lines)
    return next((failure for failure in failures if re.search(failure.pattern, text)), None)


_HUB_ADVICE = "accept the model's licence on the hub, and set HF_TOKEN to a token that may read it"

SERVER_FAILURES = (
    Failure(
        r"(?i)GatedRepoError|gated repo|access to model .* is restricted",
        "the model is gated",
        _HUB_ADVICE,
    ),
    Failure(
        r"RepositoryNotFoundError|RevisionNotFoundError|is not a valid model identifier",
        "there is no such model or revision, or it is private",
        "check its name; for a private one set HF_TOKEN",
    ),
    Failure(
        r"Not enough memory to handle \d+ (prefill )?tokens|NotEnoughMemory",
        "the GPU's memory is too small for that many tokens",
        "lower max_batch_prefill_tokens or max_total_tokens, quantize, or use more shards",
    ),
    Failure(
        r"No available memory for the cache blocks|larger than the maximum number of tokens"
        r"|KV cache is needed, which is larger",
        "the GPU's memory is too small for the KV cache",
        "lower max_total_tokens, raise memory_fraction, quantize, or use more shards",
    ),
    Failure(
        r"(?i)CUDA out of memory|CUDA error: out of memory|OutOfMemoryError|cudaMalloc failed",
        "the GPU's memory is too small",
        "quantize, lower the token limits, use more shards, or end what else uses the GPU",
    ),
    Failure(
        r"(?i)Found no NVIDIA driver|NVIDIA driver .*too old|CUDA driver version is insufficient"
        r"|No CUDA GPUs are available|Failed to infer device type|libcuda\.so",
        "the container sees no GPU that it can use",
        "check nvidia-smi on the host and the image's CUDA version, or ask for gpus",
    ),
    Failure(
        r"No space left on device|os error 28|Errno 28",
        "the disk is full",
        "free some space, or give a cache on another disk",
    ),
    Failure(
        r"failed to build prometheus recorder",
        "the server's port for Prometheus is taken",
        "name another with the argument --prometheus-port",
    ),
    Failure(
        r"(?i)Address already in use|failed to bind to|couldn't bind",
        "the port is taken inside the container",
        "do not give the server another --port",
    ),
    Failure(
        r"error: (unexpected argument|unrecognized|invalid value|argument )"
        r"|unrecognized arguments|invalid argument: ",
        "the server does not know an argument, or its value",
        "compare the arguments with what this version of the image takes",
    ),
    Failure(
        r"ArgumentValidation\(",
        "the server refuses this combination of limits",
        "change the token limits as it says",
    ),
    Failure(
        r"(?i)Bus error|unable to (write|open) .*shm|NCCL .*shm",
        "shared memory is too small",
        "raise shm_size",
    ),
    Failure(
        r"(?i)Temporary failure in name resolution|Name or service not known|NameResolutionError"
        r"|Network is unreachable|Cannot find the requested files in the .*cache"
        r"|couldn't connect to .*huggingface",
        "the model's files cannot be fetched: the container has no network",
        "give a model from a folder, or a cache that holds it",
    ),
)
"""Signs in the logs of all engines. Source: their logs and issues; see docs/local.md."""
