"""Whether a model fits: arithmetic held against published sizes and deployments."""

import json
from pathlib import Path

import pytest

from llmperf_core.decide import (
    LLAMA_2,
    QUANTIZATIONS,
    Demand,
    Fit,
    Gpus,
    ModelShape,
    Quantization,
    shape_from_config,
    shape_of,
    weight_bytes,
    will_it_fit,
)
from llmperf_core.errors import UsageError
from llmperf_local import INSTANCES

# The study ran requests of at most 1,024 tokens in and 50 out, 1 to 20 at a time.
STUDY = Demand(concurrency=1, tokens=2048)

# Source: the published study's raw results: model, quantization, instances on which it ran.
DEPLOYED = {
    ("7b", "none"): ("ml.g5.2xlarge", "ml.g5.12xlarge", "ml.g5.48xlarge", "ml.p4d.24xlarge"),
    ("7b", "gptq"): ("ml.g5.2xlarge",),
    ("13b", "none"): ("ml.g5.12xlarge", "ml.g5.48xlarge", "ml.p4d.24xlarge"),
    ("13b", "gptq"): ("ml.g5.2xlarge", "ml.g5.12xlarge"),
    ("70b", "none"): ("ml.g5.48xlarge", "ml.p4d.24xlarge"),
    ("70b", "gptq"): ("ml.g5.12xlarge", "ml.g5.48xlarge", "ml.p4d.24xlarge"),
}
# Not in the study because they cannot be. The five others that are not in it were merely not run.
IMPOSSIBLE = {
    ("13b", "none", "ml.g5.2xlarge"),
    ("70b", "none", "ml.g5.2xlarge"),
    ("70b", "none", "ml.g5.12xlarge"),
    ("70b", "gptq", "ml.g5.2xlarge"),
}


def fit(size: str, quantization: str, instance: str, demand: Demand = STUDY) -> Fit:
    """Return whether a Llama 2 fits on an instance."""
    return will_it_fit(LLAMA_2[size], quantization, gpus=INSTANCES[instance], demand=demand)


@pytest.mark.parametrize("instance", INSTANCES)
@pytest.mark.parametrize(("size", "quantization"), DEPLOYED)
def test_every_cell_of_the_study_is_answered_as_it_was(
    size: str, quantization: str, instance: str
) -> None:
    """What was deployed fits, what cannot be deployed does not, for all 24 combinations."""
    answer = fit(size, quantization, instance).answer

    assert (answer == "no") == ((size, quantization, instance) in IMPOSSIBLE)
    if instance in DEPLOYED[size, quantization]:
        assert answer != "no"


def test_the_study_has_fifteen_deployments() -> None:
    """The table above is whole: 15 deployments, and none of them is called impossible."""
    deployed = {(*model, instance) for model, on in DEPLOYED.items() for instance in on}

    assert len(deployed) == 15
    assert not deployed & IMPOSSIBLE


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("7b", 6_738_415_616), ("13b", 13_015_864_320), ("70b", 68_976_648_192)],
)
def test_parameters_are_those_of_the_checkpoints(size: str, parameters: int) -> None:
    """Counted to the last parameter, as the safetensors of the published checkpoints have them."""
    assert LLAMA_2[size].parameters == parameters


@pytest.mark.parametrize(("size", "file_gb"), [("7b", 3.90), ("13b", 7.26), ("70b", 36.65)])
def test_gptq_is_as_large_as_its_files(size: str, file_gb: float) -> None:
    """Within 1 % of the published files of 4 bits and groups of 128 (TheBloke/Llama-2-*-GPTQ)."""
    assert weight_bytes(LLAMA_2[size], QUANTIZATIONS["gptq"]) / 1e9 == pytest.approx(
        file_gb, rel=0.01
    )


def test_a_request_of_llama_2_7b_takes_half_a_megabyte_a_token() -> None:
    """A key and a value of 4,096 numbers of two bytes in 32 layers; 70B shares heads for less."""
    assert LLAMA_2["7b"].kv_bytes_per_token(2) == 524_288
    assert LLAMA_2["70b"].kv_bytes_per_token(2) == 327_680


def test_requests_without_room_make_it_tight() -> None:
    """What starts but cannot hold all requests at a time is tight, and says how many it holds."""
    many = fit("7b", "none", "ml.g5.2xlarge", Demand(concurrency=20, tokens=2048))

    assert many.answer == "tight"
    assert 1 <= many.sequences < 20
    assert f"room for {many.sequences} of 20 requests" in many.lines[0]
    assert many.left_bytes < 0


def test_little_left_is_tight() -> None:
    """Room for all requests, but so little beside that the estimates decide, is tight."""
    room = fit("7b", "none", "ml.g5.2xlarge")
    all_of_them = Demand(concurrency=room.sequences, tokens=2048)

    assert room.answer == "yes"
    assert fit("7b", "none", "ml.g5.2xlarge", all_of_them).answer == "tight"


def test_the_lines_add_up() -> None:
    """What the lines take away from the usable memory leaves what they say is left."""
    shown = [float(line.split()[-2].replace(",", "")) for line in fit(
        "70b", "gptq", "ml.g5.12xlarge").lines[1:]]  # fmt: skip

    assert shown[0] - sum(shown[1:5]) == pytest.approx(shown[5], abs=0.05)


def test_heads_that_cannot_be_spread_do_not_fit() -> None:
    """TGI refuses a number of shards that the attention heads cannot be divided by."""
    three = Gpus(count=3, memory_bytes=INSTANCES["ml.p4d.24xlarge"].memory_bytes)
    found = will_it_fit(LLAMA_2["7b"], "none", gpus=three, demand=STUDY)

    assert found.answer == "no"
    assert "32 attention heads cannot be spread over 3 GPUs" in found.why


def test_a_gpu_holds_one_head_at_least() -> None:
    """Sixteen GPUs of a model with eight KV heads hold eight heads twice, not half a head each."""
    memory_bytes = INSTANCES["ml.p4d.24xlarge"].memory_bytes
    on = {
        count: will_it_fit(
            LLAMA_2["70b"], "none", gpus=Gpus(count=count, memory_bytes=memory_bytes), demand=STUDY
        )
        for count in (8, 16)
    }

    assert on[8].kv_bytes == on[16].kv_bytes
    assert on[8].weights_bytes == 2 * on[16].weights_bytes


def test_an_unknown_quantization_lists_the_known() -> None:
    """The message names what there is; an own one can be given as a value."""
    with pytest.raises(UsageError, match=r"no quantization 'qptq'; there are none, fp8, .*gptq"):
        fit("7b", "qptq", "ml.g5.2xlarge")
    own = Quantization(name="exl2", bits=2.5)
    found = will_it_fit(LLAMA_2["70b"], own, gpus=INSTANCES["ml.g5.2xlarge"], demand=STUDY)
    assert found.weights_bytes == pytest.approx(22.4e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("meta-llama/Llama-2-7b-hf", "7b"),
        ("meta-llama/Llama-2-13b-chat-hf", "13b"),
        ("TheBloke/Llama-2-70B-GPTQ", "70b"),
    ],
)
def test_models_of_the_family_are_known_by_name(name: str, size: str) -> None:
    """However it was trained further or quantized, the shape is that of its size."""
    assert shape_of(name) == LLAMA_2[size]


CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def test_a_config_is_read(tmp_path: Path) -> None:
    """Qwen2-0.5B has 494,032,768 parameters, its biases among them and its embedding once."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))

    assert shape_from_config(tmp_path).parameters == 494_032_768
    assert shape_of(str(tmp_path / "config.json")) == shape_from_config(tmp_path)


def test_all_experts_are_held() -> None:
    """Mixtral-8x7B has 46,702,792,704 parameters, of which a token uses 13 billion."""
    mixtral = ModelShape(
        layers=32, hidden=4096, heads=32, kv_heads=8, head_size=128, intermediate=14336,
        vocabulary=32000, experts=8,
    )  # fmt: skip

    assert mixtral.parameters == 46_702_792_704


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "is no model's config.json"),
        (json.dumps({**CONFIG, "model_type": "mamba"}), "describes a 'mamba'"),
        (json.dumps({"model_type": "llama"}), "lacks a number"),
        (json.dumps({**CONFIG, "num_hidden_layers": 0}), "or has a wrong one"),
    ],
)
def test_a_config_that_says_too_little_is_refused(
    tmp_path: Path, text: str, complaint: str
) -> None:
    """What cannot be computed is said in one line, never guessed."""
    file = tmp_path / "config.json"
    file.write_text(text)

    with pytest.raises(UsageError, match=complaint):
        shape_from_config(file)


def test_a_model_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """Neither a known name nor a file: the message says what to give."""
    with pytest.raises(UsageError, match=r"give the path of its config\.json"):
        shape_of("acme/Secret-1b")
    with pytest.raises(UsageError, match="cannot be read"):
        shape_from_config(tmp_path)
