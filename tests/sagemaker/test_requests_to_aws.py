"""What is created: names, tags and requests that AWS takes, and variables that containers know."""

import re
import sys
from typing import Any

import botocore.session
import pytest
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import MissingExtraError, UsageError
from llmperf_core.lease import Lease
from llmperf_core.serving import ServerSpec
from llmperf_sagemaker.dlc import DLCS, LMI, SGLANG, TGI, VLLM, Dlc, find_image
from llmperf_sagemaker.plane import COMPONENT, CONFIG, MODEL
from llmperf_sagemaker.testing.shapes import check
from llmperf_sagemaker.wanted import Hosting, Served, lease_of, name_of, tags_of, wanted
from tests.sagemaker.deploying import IMAGE, ROLE, TYPE, a_deployment

# Source: botocore's model of the service, `EndpointName`.
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_TAG = re.compile(r"[\w .:/=+@-]{0,256}")
SPEC = ServerSpec("org/model", revision="main", quantize="gptq", shards=4, max_total_tokens=2048)


@given(
    label=st.none() | st.from_regex(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,30}", fullmatch=True),
    settings=st.text(),
)
def test_any_name_is_one_that_aws_takes(label: str | None, settings: str) -> None:
    """At most 63 letters, and the same for the same run and settings."""
    lease = Lease.new(60)
    name = name_of(lease, settings, label)

    assert _NAME.fullmatch(name)
    assert len(name) <= 63
    assert name == name_of(lease, settings, label)
    assert name != name_of(lease, settings + "x", label)
    assert lease.run in name


def test_tags_tell_the_lease_again() -> None:
    """Whatever the host and the user are called, as far as AWS has letters for it."""
    lease = Lease.new(60)
    tags = tags_of(lease, max_usd=1)

    assert lease_of(tags) == lease
    assert [text for pair in tags.items() for text in pair if not _TAG.fullmatch(text)] == []


@pytest.mark.parametrize(
    "tags", [{}, {"managed-by": "llmperf"}, {"llmperf:run": "1"}, {"managed-by": "somebody"}]
)
def test_tags_of_others_tell_no_lease(tags: dict[str, str]) -> None:
    """Both of ours have to be there."""
    assert lease_of(tags) is None


@pytest.mark.parametrize("s3", [None, "s3://bucket/prefix/"])
@pytest.mark.parametrize("accelerators", [None, 4])
def test_requests_fit_the_services_model(s3: str | None, accelerators: int | None) -> None:
    """By botocore's own validator, and by the limits that it does not check."""
    service = _service()
    it = wanted(
        name_of(Lease.new(60), "", "a-label"),
        Served(image=IMAGE, environment={"HF_MODEL_ID": "m"}, s3=s3, role=ROLE),
        Hosting(
            instance_type=TYPE,
            startup_s=600,
            provision_s=900,
            download_s=600 if s3 else None,
            ami="al2-ami-sagemaker-inference-gpu-3-1",
            component_accelerators=accelerators,
        ),
        tags_of(Lease.new(60), max_usd=1),
    )

    assert (COMPONENT in it.requests) is (accelerators is not None)
    for kind, request in it.requests.items():
        shape = service.operation_model(f"Create{kind.name}").input_shape
        report = ParamValidator().validate(request, shape)
        assert not report.has_errors(), report.generate_report()
        check("sagemaker", f"Create{kind.name}", request)


def _service() -> ServiceModel:
    return botocore.session.get_session().get_service_model("sagemaker")


def test_what_is_not_asked_for_is_left_to_sagemaker() -> None:
    """No limit and no volume is made up."""
    it = wanted(
        "n",
        Served(image=IMAGE, environment={}, role=ROLE),
        Hosting(instance_type=TYPE, startup_s=600),
        {},
    )
    config: Any = it.requests[CONFIG]
    model: Any = it.requests[MODEL]

    assert set(config["ProductionVariants"][0]) == {
        *("VariantName", "ModelName", "InstanceType", "InitialInstanceCount"),
        "ContainerStartupHealthCheckTimeoutInSeconds",
    }
    assert "ModelDataSource" not in model["PrimaryContainer"]


@pytest.mark.parametrize(
    ("version", "protocol", "has", "has_not"),
    [
        ("1.0.3", "tgi", "MAX_INPUT_LENGTH", "MAX_INPUT_TOKENS"),
        ("2.0.4", "openai-chat", "MESSAGES_API_ENABLED", "MAX_INPUT_TOKENS"),
        ("2.3.1", "openai-chat", "MESSAGES_API_ENABLED", "MAX_INPUT_LENGTH"),
        ("2.3.1", "tgi", "MAX_INPUT_TOKENS", "MESSAGES_API_ENABLED"),
        ("2.4.0", "openai-chat", "MAX_INPUT_TOKENS", "MESSAGES_API_ENABLED"),
        ("3.3.6", "openai-chat", "MAX_INPUT_TOKENS", "MESSAGES_API_ENABLED"),
    ],
)
def test_tgis_variables_follow_its_version(
    version: str, protocol: str, has: str, has_not: str
) -> None:
    """They were renamed, came and went."""
    spec = ServerSpec("m", max_input_tokens=512, shards=1)
    said = TGI.at(version).variables(spec, image=None, protocol=protocol, downloaded=False)

    assert has in said
    assert has_not not in said
    assert said["HF_MODEL_ID"] == "m"
    assert said["SM_NUM_GPUS"] == "1"


def test_the_tokens_variable_follows_the_version() -> None:
    """It had another name before TGI 2."""
    assert TGI.token(TGI.version_of("x:2.0.1-tgi1.0.3-gpu")) == "HUGGING_FACE_HUB_TOKEN"
    assert TGI.token(TGI.version_of(None)) == "HF_TOKEN"
    assert TGI.token(TGI.version_of("my/image:latest")) == "HF_TOKEN"


@pytest.mark.parametrize(
    ("dlc", "expected"),
    [
        (TGI, {"HF_MODEL_QUANTIZE": "gptq", "SM_NUM_GPUS": "4", "MAX_TOTAL_TOKENS": "2048"}),
        (
            VLLM,
            {
                "SM_VLLM_MODEL": "org/model",
                "SM_VLLM_TENSOR_PARALLEL_SIZE": "4",
                "SM_VLLM_MAX_MODEL_LEN": "2048",
            },
        ),
        (SGLANG, {"SM_SGLANG_MODEL_PATH": "org/model", "SM_SGLANG_TP_SIZE": "4"}),
        (LMI, {"HF_MODEL_ID": "org/model", "OPTION_TENSOR_PARALLEL_DEGREE": "4"}),
    ],
)
def test_each_container_is_told_in_its_own_words(dlc: Dlc, expected: dict[str, str]) -> None:
    """Whatever it is, its variables are text, and few and short enough."""
    said = dlc.variables(SPEC, image=None, protocol=dlc.protocol, downloaded=False)

    assert expected.items() <= said.items()
    assert all(type(word) is str for word in said.values())


@pytest.mark.parametrize(
    ("dlc", "spec", "protocol", "message"),
    [
        (VLLM, ServerSpec("m", max_input_tokens=1), "openai-chat", "no setting for max_input"),
        (SGLANG, ServerSpec("m", speculate=1), "openai-chat", "no setting for speculate"),
        (LMI, ServerSpec("m", speculate=1), "openai-chat", "no setting for speculate"),
        (TGI, ServerSpec("m", quantize="awq", dtype="float16"), "tgi", "no dtype beside"),
        (TGI.at("1.0.3"), ServerSpec("m"), "openai-chat", r"from version 1\.4 on"),
        (TGI, ServerSpec("m", arguments=("--x",)), "tgi", "no command line"),
    ],
)
def test_what_a_container_cannot_do_is_refused(
    dlc: Dlc, spec: ServerSpec, protocol: str, message: str
) -> None:
    """Nothing that is asked for is silently left out."""
    with pytest.raises(ValueError, match=message):
        dlc.variables(spec, image=None, protocol=protocol, downloaded=False)


@pytest.mark.parametrize("dlc", DLCS.values(), ids=str)
def test_an_image_needs_the_sdk_or_a_name(dlc: Dlc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without either it is said what to install."""
    monkeypatch.setitem(sys.modules, "sagemaker.core", None)

    with pytest.raises(MissingExtraError, match="sagemaker-images"):
        find_image(dlc, region="us-west-2", instance_type=TYPE)


def test_one_gpu_type_shares_a_model_over_all_its_gpus() -> None:
    """Unless it is said otherwise."""
    assert a_deployment(instance_type="ml.g5.12xlarge")._environment["SM_NUM_GPUS"] == "4"
    spec = ServerSpec("m", shards=2)
    assert a_deployment(spec, instance_type="ml.g5.12xlarge")._environment["SM_NUM_GPUS"] == "2"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dlc", "image"),
    [
        (TGI.at("1.0.3"), "tgi-inference:2.0.1-tgi1.0.3-gpu-py39-cu118-ubuntu20.04"),
        (TGI, "-tgi3.3.6-"),
        (VLLM, "/vllm:"),
        (SGLANG, "/sglang:"),
        (LMI, "/djl-inference:"),
    ],
    ids=str,
)
def test_the_sdks_table_names_each_container(dlc: Dlc, image: str) -> None:
    """Where the extra is installed: without credentials, and without the network."""
    pytest.importorskip("sagemaker.core")

    found = find_image(dlc, region="us-west-2", instance_type=TYPE)

    assert found.startswith("763104351884.dkr.ecr.us-west-2.amazonaws.com/")
    assert image in found
    with pytest.raises(UsageError, match="knows no image"):
        find_image(dlc.at("0.0.1"), region="us-west-2", instance_type=TYPE)
