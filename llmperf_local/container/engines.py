"""Engines as values: how TGI, vLLM, SGLang and llama.cpp are run in a container."""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from attrs import field, frozen
from attrs.validators import gt, in_, le, matches_re

from llmperf_core.serving import ServerSpec
from llmperf_core.signs import SERVER_FAILURES, Failure, Phase

Arguments = Callable[[ServerSpec, str], Sequence[str]]

PULLING, STARTING, DOWNLOADING, LOADING, WARMING_UP = (
    "pulling the image",
    "starting",
    "downloading weights",
    "loading",
    "warming up",
)
# The servers and the hub's client report to their makers by default; a benchmark sends nothing.
_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


@frozen(kw_only=True)
class Engine:
    """An inference server's image, and how it is run, watched and asked.

    Raises:
        ValueError: a field is out of its range.
    """

    name: str = field(validator=matches_re(r"[\w.-]+"))
    """What `?engine=` calls it."""
    image: str
    """With its tag. Another may be named for each container."""
    port: int = field(validator=[gt(0), le(65535)])
    """Where the server listens inside the container."""
    arguments: Arguments = field(repr=False)
    """From what is asked for and the image's name to the words of the command line; a ValueError
    says that the engine cannot do what is asked for."""
    environment: Mapping[str, str] = field(factory=dict)
    """Anybody who may inspect the container sees it: no secrets here."""
    entrypoint: Sequence[str] | None = None
    """In place of the image's own."""
    cache: str = "/root/.cache/huggingface"
    """The folder inside the container that keeps downloaded weights."""
    readiness: str = "/health"
    """The path that answers 200 once the server serves."""
    protocol: str = field(validator=in_(("tgi", "openai-chat", "openai-completions")))
    gpus: str = "all"
    """The GPUs it gets if a container does not say: `all` or `none`."""
    shm_size: str = "1g"
    """Its share of memory between processes, which NCCL needs."""
    startup_s: float = field(default=1800.0, validator=gt(0))
    """How long it may take from its start to ready; a large model's download counts."""
    phases: Sequence[Phase] = ()
    failures: Sequence[Failure] = SERVER_FAILURES
    simulated: bool = False
    """No model answers; every output says so."""


def flags(pairs: Mapping[str, object]) -> list[str]:
    """Return the words of the flags that have a value."""
    return [
        word for flag, value in pairs.items() if value is not None for word in (flag, str(value))
    ]


def refuse(engine: str, spec: ServerSpec, *fields: str) -> None:
    """Raise a ValueError if one of the fields is asked for, which the engine does not have."""
    for name in fields:
        if getattr(spec, name) is not None:
            raise ValueError(f"{engine} has no setting for {name}; leave it out")


def _version(image: str) -> tuple[int, ...]:
    """Return the version in an image's tag; one that is newer than all if it holds none."""
    found = re.search(r":v?(\d+(?:\.\d+)*)", image.rpartition("/")[2])
    return tuple(int(part) for part in found[1].split(".")) if found else (1 << 30,)


def _tgi(spec: ServerSpec, image: str) -> Sequence[str]:
    if spec.dtype is not None and not (spec.quantize or "bitsandbytes").startswith("bitsandbytes"):
        raise ValueError(f"TGI takes no dtype beside quantize {spec.quantize!r}; leave one out")
    # Renamed after 2.0.4; the old name was kept as an alias.
    longest = "--max-input-tokens" if _version(image) >= (2, 2) else "--max-input-length"
    return [
        *flags(
            {
                "--model-id": spec.model,
                # Unset, versions disagree on what NVIDIA_VISIBLE_DEVICES=all means: 1, or all.
                "--num-shard": spec.shards or 1,
                "--revision": spec.revision,
                "--quantize": spec.quantize,
                "--dtype": spec.dtype,
                longest: spec.max_input_tokens,
                "--max-total-tokens": spec.max_total_tokens,
                "--max-batch-prefill-tokens": spec.max_batch_prefill_tokens,
                "--max-concurrent-requests": spec.max_concurrent_requests,
                "--cuda-memory-fraction": spec.memory_fraction,
                "--speculate": spec.speculate,
            }
        ),
        *spec.arguments,
    ]


def _vllm(spec: ServerSpec, _image: str) -> Sequence[str]:
    refuse("vLLM", spec, "max_input_tokens")
    guesses = {
        "method": "ngram",
        "num_speculative_tokens": spec.speculate,
        "prompt_lookup_max": 4,
    }
    return [
        spec.model,
        *flags(
            {
                "--host": "0.0.0.0",  # noqa: S104 -- inside the container
                "--port": 8000,
                "--tensor-parallel-size": spec.shards or 1,
                "--revision": spec.revision,
                "--quantization": spec.quantize,
                "--dtype": spec.dtype,
                "--max-model-len": spec.max_total_tokens,
                "--max-num-batched-tokens": spec.max_batch_prefill_tokens,
                "--max-num-seqs": spec.max_concurrent_requests,
                "--gpu-memory-utilization": spec.memory_fraction,
                "--speculative-config": json.dumps(guesses) if spec.speculate else None,
            }
        ),
        *spec.arguments,
    ]


def _sglang(spec: ServerSpec, _image: str) -> Sequence[str]:
    refuse("SGLang", spec, "max_input_tokens", "speculate")
    asked = flags(
        {
            "--model-path": spec.model,
            "--host": "0.0.0.0",  # noqa: S104 -- inside the container
            "--port": 30000,
            "--tp-size": spec.shards or 1,
            "--revision": spec.revision,
            "--quantization": spec.quantize,
            "--dtype": spec.dtype,
            "--context-length": spec.max_total_tokens,
            "--max-prefill-tokens": spec.max_batch_prefill_tokens,
            "--max-running-requests": spec.max_concurrent_requests,
            "--mem-fraction-static": spec.memory_fraction,
        }
    )
    return [*asked, "--enable-metrics", *spec.arguments]


def _llama_cpp(spec: ServerSpec, _image: str) -> Sequence[str]:
    refuse("llama.cpp", spec, "max_input_tokens", "revision", "dtype", "memory_fraction")
    refuse("llama.cpp", spec, "speculate", "shards")
    slots = spec.max_concurrent_requests
    total = spec.max_total_tokens
    local = spec.model.endswith(".gguf")
    if local and spec.quantize is not None:
        raise ValueError("a .gguf file is quantized already; leave out quantize")
    repository = f"{spec.model}:{spec.quantize}" if spec.quantize else spec.model
    asked = flags(
        {
            "--model" if local else "--hf-repo": spec.model if local else repository,
            "--host": "0.0.0.0",  # noqa: S104 -- inside the container
            "--port": 8080,
            "--parallel": slots,
            # The server divides its context among the slots.
            "--ctx-size": total * (slots or 1) if total is not None else None,
            "--batch-size": spec.max_batch_prefill_tokens,
            "--n-gpu-layers": 999,  # all of them; ignored where there is no GPU
        }
    )
    return [*asked, "--metrics", *spec.arguments]


TGI = Engine(
    name="tgi",
    image="ghcr.io/huggingface/text-generation-inference:3.3.5",
    port=80,
    arguments=_tgi,
    # Settings that only some versions have go by environment: others ignore them.
    environment={**_QUIET, "PORT": "80", "USAGE_STATS": "off"},
    cache="/data",
    protocol="tgi",
    phases=(
        Phase("Starting check and download process|Download file", DOWNLOADING),
        Phase("Starting shard|Successfully downloaded weights|Files are already present", LOADING),
        Phase("Warming up model|Starting Webserver", WARMING_UP),
    ),
)
"""Hugging Face Text Generation Inference. Its port opens only after its warm-up.

It also takes port 9000, for Prometheus, where nobody answers; in a container that port is free.
Source: its launcher and its router at 3.3.5.
"""

VLLM = Engine(
    name="vllm",
    image="vllm/vllm-openai:v0.11.0",
    port=8000,
    arguments=_vllm,
    # The image's own entrypoint changed between versions, and with it how the model is named.
    entrypoint=("vllm", "serve"),
    environment={**_QUIET, "VLLM_NO_USAGE_STATS": "1"},
    protocol="openai-completions",
    phases=(
        Phase("Time spent downloading weights|Downloading", DOWNLOADING),
        Phase("Starting to load model|Loading (safetensors|pt) checkpoint", LOADING),
        Phase("GPU KV cache size|Capturing CUDA graph|torch.compile|profiling", WARMING_UP),
    ),
)
"""vLLM. Completions are asked for, which base models answer, too; chat is an option.

Source: docs.vllm.ai, Engine Arguments.
"""

SGLANG = Engine(
    name="sglang",
    image="lmsysorg/sglang:v0.5.3",
    port=30000,
    arguments=_sglang,
    entrypoint=("python3", "-m", "sglang.launch_server"),
    environment=_QUIET,
    protocol="openai-completions",
    shm_size="16g",
    phases=(
        Phase("Downloading", DOWNLOADING),
        Phase("Load weight begin|Loading safetensors checkpoint", LOADING),
        Phase("Capture cuda graph begin|KV Cache is allocated|warmup", WARMING_UP),
    ),
)
"""SGLang. Source: docs.sglang.io, Server Arguments."""

LLAMA_CPP = Engine(
    name="llama.cpp",
    image="ghcr.io/ggml-org/llama.cpp:server",
    port=8080,
    arguments=_llama_cpp,
    environment={"LLAMA_CACHE": "/root/.cache/llama.cpp"},
    cache="/root/.cache/llama.cpp",
    protocol="openai-chat",
    gpus="none",
    phases=(
        Phase("download", DOWNLOADING),
        Phase("loading model", LOADING),
        Phase("warming up the model", WARMING_UP),
    ),
)
"""llama.cpp's server, on the processor; for a GPU name the image `…:server-cuda`, and `gpus`."""

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (TGI, VLLM, SGLANG, LLAMA_CPP)}
"""The engines that a URL can name."""
