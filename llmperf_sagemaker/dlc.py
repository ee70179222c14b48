"""AWS's containers for language models as values: how each is configured, looked up and asked."""

import re
from collections.abc import Callable, Mapping

from attrs import evolve, field, frozen
from attrs.validators import in_, matches_re, optional

from llmperf_core.errors import MissingExtraError, UsageError
from llmperf_core.serving import ServerSpec

Version = tuple[int, ...]
"""Of an image: `(3, 3, 6)`; one that is newer than all where nobody says it."""
Environment = Callable[[ServerSpec, Version, str], Mapping[str, str]]

_DOWNLOADED = "/opt/ml/model"
"""Where SageMaker puts the files that it fetches from S3."""
_NEWEST: Version = (1 << 30,)
_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


@frozen(kw_only=True)
class Dlc:
    """One of AWS's deep learning containers, or another image that is configured like it.

    Raises:
        ValueError: a field is out of its range.
    """

    name: str = field(validator=matches_re(r"[\w.-]+"))
    """What `?engine=` calls it."""
    framework: str
    """What the SageMaker SDK's table of images calls it."""
    version: str | None = field(default=None, validator=optional(matches_re(r"\d[\w.]*")))
    """None takes what the table has by default."""
    in_tag: str = r"(\d+(?:\.\d+)+)"
    """Finds the version in an image's tag."""
    environment: Environment = field(repr=False)
    """From what shall be served, the version and the protocol to the container's variables. A
    ValueError says that it cannot do what is asked for."""
    token: Callable[[Version], str] = field(default=lambda _: "HF_TOKEN", repr=False)
    """The variable for the hub's token."""
    protocol: str = field(validator=in_(("tgi", "openai-chat", "openai-completions")))
    """What its `/invocations` speaks if nobody asks for another."""

    def at(self, version: str) -> "Dlc":
        """Return the same container in another version."""
        return evolve(self, version=version)

    def version_of(self, image: str | None) -> Version:
        """Return the version of an image, by its tag; without an image, the one asked for."""
        text = self.version or ""
        if image is not None:
            found = re.search(self.in_tag, image.rpartition(":")[2])
            text = found[1] if found else ""
        parts = re.match(r"\d+(?:\.\d+)*", text)
        return tuple(int(part) for part in parts[0].split(".")) if parts else _NEWEST

    def variables(
        self, server: ServerSpec, *, image: str | None, protocol: str, downloaded: bool
    ) -> dict[str, str]:
        """Return the container's variables.

        Args:
            server: what is served.
            image: None is the one that the table has.
            protocol: what it shall speak.
            downloaded: whether SageMaker has put the weights into the container.

        Raises:
            ValueError: it cannot do what is asked for.
        """
        if server.arguments:
            raise ValueError("an endpoint has no command line; set variables in environment")
        if downloaded:
            server = evolve(server, model=_DOWNLOADED, revision=None)
        said = self.environment(server, self.version_of(image), protocol)
        return {**said, **({"HF_HUB_OFFLINE": "1"} if downloaded else {})}


def find_image(dlc: Dlc, *, region: str, instance_type: str) -> str:
    """Return an image's URI from the SageMaker SDK's own table. Needs no network; blocks 2 s once.

    Raises:
        MissingExtraError: the SDK is not installed.
        UsageError: the table has no such image.
    """
    try:
        from sagemaker.core import image_uris
    except ImportError as error:
        raise MissingExtraError("sagemaker-images", "sagemaker.core") from error
    try:
        found: str = image_uris.retrieve(
            dlc.framework,
            region=region,
            version=dlc.version,
            instance_type=instance_type,
            image_scope="inference",
        )
    except ValueError as error:
        raise UsageError(
            f"the SageMaker SDK knows no image of {dlc.name} for this: {error}; or name an image"
        ) from error
    return found


def _set(pairs: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that have a value."""
    return {name: str(value) for name, value in pairs.items() if value is not None}


def _refuse(engine: str, spec: ServerSpec, *fields: str) -> None:
    """Raise a ValueError if one of the fields is asked for, which the engine does not have."""
    for name in fields:
        if getattr(spec, name) is not None:
            raise ValueError(f"{engine} has no setting for {name}; leave it out")


def _tgi(spec: ServerSpec, version: Version, protocol: str) -> Mapping[str, str]:
    if spec.dtype is not None and not (spec.quantize or "bitsandbytes").startswith("bitsandbytes"):
        raise ValueError(f"TGI takes no dtype beside quantize {spec.quantize!r}; leave one out")
    chat = protocol == "openai-chat"
    if chat and version < (1, 4):
        raise ValueError("TGI speaks openai-chat from version 1.4 on; use protocol tgi")
    # Renamed after 2.0.4; from 2.4 on the body says which protocol it is, before a variable did.
    longest = "MAX_INPUT_TOKENS" if version >= (2, 2) else "MAX_INPUT_LENGTH"
    return _set(
        {
            "HF_MODEL_ID": spec.model,
            "HF_MODEL_REVISION": spec.revision,
            "HF_MODEL_QUANTIZE": spec.quantize,
            "SM_NUM_GPUS": spec.shards,
            "DTYPE": spec.dtype,
            longest: spec.max_input_tokens,
            "MAX_TOTAL_TOKENS": spec.max_total_tokens,
            "MAX_BATCH_PREFILL_TOKENS": spec.max_batch_prefill_tokens,
            "MAX_CONCURRENT_REQUESTS": spec.max_concurrent_requests,
            "CUDA_MEMORY_FRACTION": spec.memory_fraction,
            "SPECULATE": spec.speculate,
            "MESSAGES_API_ENABLED": "true" if chat and version < (2, 4) else None,
            "JSON_OUTPUT": "true",  # the log is read by programs, too
            "USAGE_STATS": "off",
            **_QUIET,
        }
    )


def _vllm(spec: ServerSpec, _version: Version, _protocol: str) -> Mapping[str, str]:
    _refuse("vLLM", spec, "max_input_tokens", "speculate")
    return _set(
        {
            "SM_VLLM_MODEL": spec.model,
            "SM_VLLM_REVISION": spec.revision,
            "SM_VLLM_QUANTIZATION": spec.quantize,
            "SM_VLLM_TENSOR_PARALLEL_SIZE": spec.shards,
            "SM_VLLM_DTYPE": spec.dtype,
            "SM_VLLM_MAX_MODEL_LEN": spec.max_total_tokens,
            "SM_VLLM_MAX_NUM_BATCHED_TOKENS": spec.max_batch_prefill_tokens,
            "SM_VLLM_MAX_NUM_SEQS": spec.max_concurrent_requests,
            "SM_VLLM_GPU_MEMORY_UTILIZATION": spec.memory_fraction,
            "VLLM_NO_USAGE_STATS": "1",
            **_QUIET,
        }
    )


def _sglang(spec: ServerSpec, _version: Version, _protocol: str) -> Mapping[str, str]:
    _refuse("SGLang", spec, "max_input_tokens", "speculate")
    return _set(
        {
            "SM_SGLANG_MODEL_PATH": spec.model,
            "SM_SGLANG_REVISION": spec.revision,
            "SM_SGLANG_QUANTIZATION": spec.quantize,
            "SM_SGLANG_TP_SIZE": spec.shards,
            "SM_SGLANG_DTYPE": spec.dtype,
            "SM_SGLANG_CONTEXT_LENGTH": spec.max_total_tokens,
            "SM_SGLANG_MAX_PREFILL_TOKENS": spec.max_batch_prefill_tokens,
            "SM_SGLANG_MAX_RUNNING_REQUESTS": spec.max_concurrent_requests,
            "SM_SGLANG_MEM_FRACTION_STATIC": spec.memory_fraction,
            **_QUIET,
        }
    )


def _lmi(spec: ServerSpec, _version: Version, _protocol: str) -> Mapping[str, str]:
    _refuse("LMI", spec, "max_input_tokens", "speculate")
    return _set(
        {
            "HF_MODEL_ID": spec.model,
            "HF_REVISION": spec.revision,
            "OPTION_ROLLING_BATCH": "vllm",
            "OPTION_QUANTIZE": spec.quantize,
            "OPTION_TENSOR_PARALLEL_DEGREE": spec.shards,
            "OPTION_DTYPE": spec.dtype,
            "OPTION_MAX_MODEL_LEN": spec.max_total_tokens,
            "OPTION_MAX_ROLLING_BATCH_PREFILL_TOKENS": spec.max_batch_prefill_tokens,
            "OPTION_MAX_ROLLING_BATCH_SIZE": spec.max_concurrent_requests,
            "OPTION_GPU_MEMORY_UTILIZATION": spec.memory_fraction,
            **_QUIET,
        }
    )


TGI = Dlc(
    name="tgi",
    framework="huggingface-llm",
    version="3.3.6",
    in_tag=r"tgi(\d+(?:\.\d+)+)",
    environment=_tgi,
    token=lambda version: "HF_TOKEN" if version >= (2,) else "HUGGING_FACE_HUB_TOKEN",
    protocol="tgi",
)
"""Hugging Face Text Generation Inference.

Source: its `sagemaker-entrypoint.sh` and its launcher, versions 1.0.3 to 3.3.6.
"""

VLLM = Dlc(
    name="vllm",
    framework="vllm",
    in_tag=r"^v?(\d+(?:\.\d+)+)",
    environment=_vllm,
    protocol="openai-completions",
)
"""vLLM: each `SM_VLLM_X_Y` becomes `--x-y`. Source: vLLM's `examples/online_serving`, the script
`sagemaker-entrypoint.sh`."""

SGLANG = Dlc(
    name="sglang",
    framework="sglang",
    in_tag=r"^v?(\d+(?:\.\d+)+)",
    environment=_sglang,
    protocol="openai-completions",
)
"""SGLang: each `SM_SGLANG_X_Y` becomes `--x-y`. Source: aws/deep-learning-containers."""

LMI = Dlc(
    name="lmi",
    framework="djl-lmi",
    environment=_lmi,
    protocol="openai-chat",
)
"""AWS's Large Model Inference: DJL Serving with vLLM in it. Source: its user guide."""

DLCS: Mapping[str, Dlc] = {dlc.name: dlc for dlc in (TGI, VLLM, SGLANG, LMI)}
"""The containers that a URL can name."""
