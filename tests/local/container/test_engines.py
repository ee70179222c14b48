"""How what is asked for becomes a command line, for each engine."""

from collections.abc import Sequence

import pytest

from llmperf_local.container import ENGINES, LLAMA_CPP, SGLANG, TGI, VLLM, Engine, ServerSpec

LLAMA = "meta-llama/Llama-2-7b-hf"
LIMITS = ServerSpec(
    LLAMA,
    revision="main",
    quantize="gptq",
    shards=4,
    max_total_tokens=2048,
    max_batch_prefill_tokens=4096,
    max_concurrent_requests=64,
    memory_fraction=0.9,
    arguments=("--disable-custom-kernels",),
)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (
            TGI,
            (
                f"--model-id {LLAMA} --num-shard 4 --revision main --quantize gptq "
                "--max-total-tokens 2048 --max-batch-prefill-tokens 4096 "
                "--max-concurrent-requests 64 --cuda-memory-fraction 0.9 --disable-custom-kernels"
            ),
        ),
        (
            VLLM,
            (
                f"{LLAMA} --host 0.0.0.0 --port 8000 --tensor-parallel-size 4 --revision main "
                "--quantization gptq --max-model-len 2048 --max-num-batched-tokens 4096 "
                "--max-num-seqs 64 --gpu-memory-utilization 0.9 --disable-custom-kernels"
            ),
        ),
        (
            SGLANG,
            (
                f"--model-path {LLAMA} --host 0.0.0.0 --port 30000 --tp-size 4 --revision main "
                "--quantization gptq --context-length 2048 --max-prefill-tokens 4096 "
                "--max-running-requests 64 --mem-fraction-static 0.9 --enable-metrics "
                "--disable-custom-kernels"
            ),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Engine) else "",
)
def test_limits_become_the_engines_own_flags(engine: Engine, words: str) -> None:
    """Each engine has its own names for the same things."""
    assert list(engine.arguments(LIMITS, engine.image)) == words.split()


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
def test_a_model_is_enough(engine: Engine) -> None:
    """No flag stands for what nobody asked for, and none lacks its value."""
    words = engine.arguments(ServerSpec(LLAMA), engine.image)

    assert LLAMA in words
    assert "None" not in words


def test_tgi_is_always_told_its_shards() -> None:
    """Versions disagree on what they do without."""
    words = list(TGI.arguments(ServerSpec(LLAMA), TGI.image))

    assert words[words.index("--num-shard") + 1] == "1"


@pytest.mark.parametrize(
    ("image", "flag"),
    [
        ("ghcr.io/huggingface/text-generation-inference:1.0.3", "--max-input-length"),
        ("ghcr.io/huggingface/text-generation-inference:2.0.4", "--max-input-length"),
        ("ghcr.io/huggingface/text-generation-inference:3.3.5", "--max-input-tokens"),
        ("ghcr.io/huggingface/text-generation-inference:latest", "--max-input-tokens"),
        ("localhost:5000/mine", "--max-input-tokens"),
    ],
)
def test_tgi_is_told_its_longest_prompt_in_its_versions_words(image: str, flag: str) -> None:
    """The flag was renamed; a tag without a version is taken for a new one."""
    assert flag in TGI.arguments(ServerSpec(LLAMA, max_input_tokens=1024), image)


def test_llama_cpp_gets_room_for_each_slot() -> None:
    """Its context is divided among its slots; a file is no repository."""
    spec = ServerSpec("/models/tiny.gguf", max_concurrent_requests=4, max_total_tokens=512)

    words = " ".join(LLAMA_CPP.arguments(spec, LLAMA_CPP.image))

    assert words.startswith("--model /models/tiny.gguf")
    assert "--parallel 4 --ctx-size 2048" in words


def test_llama_cpp_takes_a_part_of_a_repository() -> None:
    """Which quantization of a model is behind its name."""
    words = LLAMA_CPP.arguments(ServerSpec("ggml-org/x-GGUF", quantize="Q4_K_M"), LLAMA_CPP.image)

    assert list(words[:2]) == ["--hf-repo", "ggml-org/x-GGUF:Q4_K_M"]


def test_vllm_guesses_from_n_grams() -> None:
    """Speculation is one JSON object on its command line."""
    words = list(VLLM.arguments(ServerSpec(LLAMA, speculate=3), VLLM.image))

    assert '"num_speculative_tokens": 3' in words[words.index("--speculative-config") + 1]


@pytest.mark.parametrize(
    ("engine", "spec", "reason"),
    [
        (TGI, ServerSpec("m", quantize="gptq", dtype="float16"), "no dtype beside"),
        (VLLM, ServerSpec("m", max_input_tokens=9), "no setting for max_input_tokens"),
        (SGLANG, ServerSpec("m", speculate=2), "no setting for speculate"),
        (LLAMA_CPP, ServerSpec("m", dtype="float16"), "no setting for dtype"),
        (LLAMA_CPP, ServerSpec("m.gguf", quantize="Q4_K_M"), "quantized already"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(engine: Engine, spec: ServerSpec, reason: str) -> None:
    """Nothing that is asked for is silently left out."""
    with pytest.raises(ValueError, match=reason):
        engine.arguments(spec, engine.image)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": ""}, "model"),
        ({"model": "--help"}, "model"),
        ({"model": "m", "shards": 0}, "shards"),
        ({"model": "m", "memory_fraction": 1.5}, "memory_fraction"),
        ({"model": "m", "quantize": "--api-key"}, "quantize"),
        ({"model": "m", "max_input_tokens": 8, "max_total_tokens": 8}, "no room for an answer"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(settings: dict[str, object], reason: str) -> None:
    """Before anything is fetched; a value cannot pass for a flag."""
    with pytest.raises(ValueError, match=reason):
        ServerSpec(**settings)  # type: ignore[arg-type]


def phases(engine: Engine, lines: Sequence[str]) -> list[str]:
    """Return the phases that a log goes through."""
    from llmperf_core.signs import phase_of

    return [phase for line in lines if (phase := phase_of(line, engine.phases))]


def test_the_phases_of_tgi_come_in_order() -> None:
    """From the lines that its launcher and its router print."""
    log = [
        "Args {",
        "Starting check and download process for meta-llama/Llama-2-7b-hf",
        "Successfully downloaded weights for meta-llama/Llama-2-7b-hf",
        "Starting shard",
        "Waiting for shard to be ready...",
        "Shard ready in 12.3s",
        "Starting Webserver",
        "Warming up model",
        "Connected",
    ]
    order = list(dict.fromkeys(phases(TGI, log)))

    assert order == ["downloading weights", "loading", "warming up"]
