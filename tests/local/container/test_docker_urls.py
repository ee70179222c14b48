"""What `docker:` URLs mean."""

import pytest

from llmperf_core import Options, target_of
from llmperf_core.errors import TargetUrlError
from llmperf_core.target import CanReap, CanReport
from llmperf_local.container import LLAMA_CPP, TGI, VLLM, Container, RunningContainer, ServerSpec
from llmperf_local.container.backend import backend


def test_a_model_alone_means_tgi() -> None:
    """And the same as the class with the same name."""
    assert target_of("docker:meta-llama/Llama-2-7b-hf") == Container("meta-llama/Llama-2-7b-hf")


def test_everything_can_be_said() -> None:
    """Of the server and of its container."""
    url = (
        "docker:meta-llama/Llama-2-70b-hf?engine=vllm&quantize=gptq&shards=4&max_total_tokens=2048"
        "&memory_fraction=0.9&gpus=0,1,2,3&shm_size=2g&image=mine:1&cache=/big&port=8080"
        "&startup_s=60&arg=--enforce-eager&arg=--seed&arg=7"
    )
    spec = ServerSpec(
        "meta-llama/Llama-2-70b-hf",
        quantize="gptq",
        shards=4,
        max_total_tokens=2048,
        memory_fraction=0.9,
        arguments=("--enforce-eager", "--seed", "7"),
    )
    assert target_of(url) == Container(
        spec,
        engine=VLLM,
        gpus="0,1,2,3",
        shm_size="2g",
        image="mine:1",
        cache="/big",
        port=8080,
        options=Options(startup_s=60),
    )


@pytest.mark.parametrize(
    "url",
    [
        "docker:meta-llama/Llama-2-7b-hf",
        "docker:m?engine=vllm&quantize=gptq&shards=2",
        "docker:m?gpus=none&memory=1g&arg=--json-output",
        "docker:@tgi",
        "docker:@tgi:80",
    ],
)
def test_a_name_means_the_same_target(url: str) -> None:
    """What a table calls it can be given to the command line again."""
    target = target_of(url)

    assert target.name == url
    assert target_of(target.name) == target


def test_an_at_sign_means_a_container_that_runs() -> None:
    """By its name, its id or its port."""
    assert target_of("docker:@tgi") == RunningContainer("tgi")
    assert Container.attach(8080) == RunningContainer("8080")


def test_shards_follow_the_gpus_that_are_named() -> None:
    """Who names two GPUs means both."""
    words = list(Container("m", gpus="0,1")._arguments())

    assert words[words.index("--num-shard") + 1] == "2"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("docker:", "it is not docker:MODEL"),
        ("docker://m", "it is not docker:MODEL"),
        ("docker:m?engine=tgj", "no engine 'tgj': it is tgi, vllm"),
        ("docker:m?quantise=gptq", "'quantise' is not one of engine,"),
        ("docker:m?shards=two", "shards is not a number: 'two'"),
        ("docker:m?shards=2&shards=4", "shards comes twice"),
        ("docker:m?gpus=some", "write all, none, or like 0,1"),
        ("docker:m?memory=much", "'much' is no size"),
        ("docker:m?port=0", "port"),
        ("docker:m?engine=vllm&max_input_tokens=5", "vLLM has no setting for max_input_tokens"),
        ("docker:@", "container"),
        ("docker:@tgi?gpus=all", "a container that runs takes no settings"),
        ("docker:m?startup_s=-1", "startup_s"),
    ],
)
def test_what_cannot_be_is_a_usage_error(url: str, reason: str) -> None:
    """With the part that is wrong, and how to write it."""
    with pytest.raises(TargetUrlError, match="write docker:MODEL") as caught:
        target_of(url)
    assert reason in str(caught.value)


def test_the_backend_can_reap_and_its_target_can_report() -> None:
    """Core finds out by asking."""
    assert isinstance(backend, CanReap)
    assert isinstance(Container("m"), CanReport)
    assert not isinstance(RunningContainer("m"), CanReport)


def test_engines_are_values() -> None:
    """One that is a little different is evolved from another."""
    assert Container("m", engine=LLAMA_CPP).name == "docker:m?engine=llama.cpp"
    assert Container("m").engine is TGI
