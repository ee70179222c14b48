"""What `sagemaker-deploy:` URLs mean."""

import pytest
from attrs import evolve

from llmperf_core import target_of
from llmperf_core.errors import TargetUrlError
from llmperf_core.serving import ServerSpec
from llmperf_core.target import CanReap, Options
from llmperf_sagemaker import LMI, TGI, VLLM, Deployment
from llmperf_sagemaker.deploying import backend


def test_a_url_names_a_deployment() -> None:
    """The published study's, as it is written beside `sagemaker:ENDPOINT`."""
    target = target_of(
        "sagemaker-deploy:meta-llama/Llama-2-70b-hf?instance=ml.g5.48xlarge&tgi=1.0.3"
        "&quantize=gptq&region=us-west-2&max_usd=40&startup_s=3600&max_total_tokens=2048"
    )

    assert target == Deployment(
        ServerSpec("meta-llama/Llama-2-70b-hf", max_total_tokens=2048),
        instance_type="ml.g5.48xlarge",
        tgi_version="1.0.3",
        quantize="gptq",
        region="us-west-2",
        max_usd=40.0,
        startup_s=3600,
    )


def test_other_containers_and_options() -> None:
    """Engine, version, protocol and what else can be said."""
    vllm = target_of("sagemaker-deploy:m?instance=ml.g5.xlarge&engine=vllm&version=0.30.0")
    lmi = target_of(
        "sagemaker-deploy:m?instance=ml.g5.xlarge&engine=lmi&component=true&protocol=tgi",
        Options(model="alias"),
    )

    assert isinstance(vllm, Deployment)
    assert isinstance(lmi, Deployment)
    assert vllm.engine == VLLM.at("0.30.0")
    assert (lmi.engine, lmi.component) == (LMI, True)
    assert lmi.options == evolve(Options(model="alias"), protocol="tgi")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "sagemaker-deploy:org/m?instance=ml.g5.xlarge"),
        (
            {"tgi_version": "1.0.3", "quantize": "gptq", "component": True},
            "sagemaker-deploy:org/m?instance=ml.g5.xlarge&quantize=gptq&version=1.0.3&component=true",
        ),
        (
            {"engine": VLLM, "region": "us-west-2"},
            "sagemaker-deploy:org/m?instance=ml.g5.xlarge&engine=vllm&region=us-west-2",
        ),
    ],
)
def test_its_name_is_its_url(settings: dict[str, object], name: str) -> None:
    """Which says what was measured, and means the same again, without a permission to spend."""
    target = Deployment("org/m", instance_type="ml.g5.xlarge", max_usd=5, **settings)  # type: ignore[arg-type]
    again = target_of(name)

    assert target.name == name
    assert isinstance(again, Deployment)
    assert again.name == name
    assert again.max_usd is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sagemaker-deploy:m", "names no instance type"),
        ("sagemaker-deploy:?instance=ml.g5.xlarge", "not sagemaker-deploy:MODEL"),
        ("sagemaker-deploy:m?instance=g5.xlarge", "instance_type"),
        ("sagemaker-deploy:m?instance=ml.g5.xlarge&instance=ml.g5.xlarge", "comes twice"),
        ("sagemaker-deploy:m?instance=ml.g5.xlarge&gpu=1", "'gpu' is not one of"),
        ("sagemaker-deploy:m?instance=ml.g5.xlarge&max_usd=much", "max_usd is not a number"),
        ("sagemaker-deploy:m?instance=ml.g5.xlarge&component=1", "is not true or false"),
        ("sagemaker-deploy:m?instance=ml.g5.xlarge&engine=x", "no engine 'x'"),
        ("sagemaker-deploy:m?instance=ml.g5.xlarge&engine=vllm&tgi=1.0.3", "tgi_version"),
        ("sagemaker-deploy:m?instance=ml.g5.xlarge&region=nowhere", "region"),
    ],
)
def test_what_names_none_is_told(url: str, reason: str) -> None:
    """With what to write."""
    with pytest.raises(TargetUrlError, match=reason) as caught:
        target_of(url)

    assert "sagemaker-deploy:MODEL?instance=" in str(caught.value)


def test_the_default_container_is_tgi() -> None:
    """In the version that its name then does not say."""
    target = target_of("sagemaker-deploy:m?instance=ml.g5.xlarge")

    assert isinstance(target, Deployment)
    assert target.engine == TGI
    assert isinstance(backend, CanReap)
