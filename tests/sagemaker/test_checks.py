"""What is found before a deployment: quota, permissions, memory."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from llmperf_core.bringup import Finding
from llmperf_core.decide import LLAMA_2, Demand, ModelShape
from llmperf_sagemaker.fitting import fit_findings
from llmperf_sagemaker.permissions import DEPLOYING, permission_findings
from llmperf_sagemaker.quotas import instances_in_use, quota_findings, quota_of
from tests.sagemaker.stubbed import Call, Said, StubbedSession

G5 = "ml.g5.12xlarge"
ASKED = {"ServiceCode": "sagemaker"}


def quota(value: float, *, name: str = f"{G5} for endpoint usage") -> dict[str, Any]:
    """Return a quota as AWS gives it."""
    return {
        "QuotaName": name,
        "QuotaCode": "L-65C4BD00",
        "Value": value,
        "ServiceCode": "sagemaker",
    }


def applied(*quotas: Mapping[str, Any] | str) -> list[Call]:
    """Return the account's own quotas, on a page each."""
    pages: list[Call] = []
    for n, one in enumerate(quotas):
        token = {"NextToken": str(n)} if n else {}
        more = {"NextToken": str(n + 1)} if n + 1 < len(quotas) else {}
        said: Said = one if isinstance(one, str) else {"Quotas": [one], **more}
        pages.append(("list_service_quotas", {**ASKED, **token}, said))
    return pages


def endpoint(
    name: str, counts: Mapping[str, tuple[str, int, int]], status: str = "InService"
) -> tuple[dict[str, Any], list[Call]]:
    """Return an endpoint as a list has it, and the calls that describe it.

    Args:
        name: what it is called.
        counts: instance type, current and desired instances of its variants.
        status: how it stands.
    """
    arn = f"arn:aws:sagemaker:us-west-2:123456789012:endpoint/{name}"
    at = "2026-11-24T00:00:00Z"
    times = {"CreationTime": at, "LastModifiedTime": at}
    running = [
        {"VariantName": variant, "CurrentInstanceCount": has, "DesiredInstanceCount": wants}
        for variant, (_, has, wants) in counts.items()
    ]
    config = [
        {"VariantName": variant, "InstanceType": instance_type, "InitialInstanceCount": 1}
        for variant, (instance_type, _, _) in counts.items()
    ]
    known = {"EndpointName": name, "EndpointArn": arn, "EndpointStatus": status, **times}
    return known, [
        (
            "describe_endpoint",
            {"EndpointName": name},
            {**known, "EndpointConfigName": f"{name}-config", "ProductionVariants": running},
        ),
        (
            "describe_endpoint_config",
            {"EndpointConfigName": f"{name}-config"},
            {
                "EndpointConfigName": f"{name}-config",
                "EndpointConfigArn": arn,
                "ProductionVariants": config,
                "CreationTime": at,
            },
        ),
    ]


def answer(call: Call) -> Mapping[str, Any]:
    """Return what a call says, where it is no error."""
    return cast("Mapping[str, Any]", call[2])


def running(*endpoints: tuple[dict[str, Any], list[Call]]) -> list[Call]:
    """Return the calls that list and describe these endpoints."""
    known = {"Endpoints": [listed for listed, _ in endpoints]}
    return [("list_endpoints", {}, known), *(call for _, calls in endpoints for call in calls)]


def test_a_quota_of_0_refuses_with_its_code() -> None:
    """It says what to ask for, and asks about no endpoint, as none can be of that type."""
    session = StubbedSession({"service-quotas": applied(quota(9, name="other"), quota(0))})

    (found,) = quota_findings(G5, account=session)

    assert found.refused
    assert found.detail == (
        "the quota 'ml.g5.12xlarge for endpoint usage' in us-west-2 is 0, 0 in use and 1 needed; "
        "ask AWS for more (Service Quotas, L-65C4BD00)"
    )
    assert [service for service, _ in session.asked] == ["service-quotas"]


def test_what_is_in_use_counts_against_the_quota() -> None:
    """Instances that an endpoint has or is getting are no longer to be had."""
    one = endpoint("one", {"a": (G5, 1, 1), "b": ("ml.g5.2xlarge", 5, 5)})
    growing = endpoint("growing", {"a": (G5, 0, 2)}, "Updating")
    in_use = running(one, growing)

    def findings(value: int, instances: int = 1) -> list[Finding]:
        calls = {"service-quotas": applied(quota(value)), "sagemaker": in_use}
        return list(quota_findings(G5, account=StubbedSession(calls), instances=instances))

    assert [found.refused for found in (*findings(4), *findings(7, instances=2))] == [False] * 2
    shared = [found.quota for found in (*findings(4), *findings(7, instances=2))]
    assert [quota and (quota.available, quota.name) for quota in shared] == [
        (1, "ml.g5.12xlarge for endpoint usage in us-west-2"),
        (2, "ml.g5.12xlarge for endpoint usage in us-west-2"),
    ]
    assert [found.refused for found in findings(3)] == [True]
    assert "is 3, 3 in use and 1 needed" in findings(3)[0].detail
    assert "or delete endpoints" in findings(3)[0].detail
    assert "is 4, 3 in use and 2 needed" in findings(4, instances=2)[0].detail


def test_what_is_gone_or_serverless_uses_no_instance() -> None:
    """Endpoints being deleted, failed, serverless or deleted meanwhile do not count."""
    listed, (describe, _) = endpoint("gone", {"a": (G5, 1, 1)})
    gone: tuple[dict[str, Any], list[Call]] = (listed, [(*describe[:2], "ValidationException")])
    serverless, (first, second) = endpoint("serverless", {"a": (G5, 1, 1)})
    config = {**answer(second)}
    config["ProductionVariants"] = [
        {
            "VariantName": "a",
            "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
        }
    ]
    failed, _ = endpoint("failed", {}, "Failed")
    calls = running(gone, (serverless, [first, (*second[:2], config)]), (failed, []))

    assert instances_in_use(G5, StubbedSession({"sagemaker": calls})) == 0


def test_an_endpoint_that_tells_no_counts_has_what_it_began_with() -> None:
    """While it is created, its config alone says how many it gets."""
    listed, (first, second) = endpoint("new", {"a": (G5, 0, 0)}, "Creating")
    described = {**answer(first)}
    del described["ProductionVariants"]
    calls = running((listed, [(*first[:2], described), second]))

    assert instances_in_use(G5, StubbedSession({"sagemaker": calls})) == 1


def test_the_default_counts_where_nothing_was_applied() -> None:
    """AWS lists a quota that was never changed among its defaults alone."""
    calls: list[Call] = [
        ("list_service_quotas", ASKED, {"Quotas": []}),
        ("list_aws_default_service_quotas", ASKED, {"Quotas": [quota(2)]}),
    ]

    found = quota_of(G5, StubbedSession({"service-quotas": calls}))

    assert found is not None
    assert found.instances == 2


def test_a_type_without_a_quota_is_a_warning() -> None:
    """It may be that it is no host in that region; the deployment will tell."""
    calls: list[Call] = [
        ("list_service_quotas", ASKED, {"Quotas": []}),
        ("list_aws_default_service_quotas", ASKED, {"Quotas": []}),
    ]

    (found,) = quota_findings(G5, account=StubbedSession({"service-quotas": calls}))

    assert not found.refused
    assert "there is no quota 'ml.g5.12xlarge for endpoint usage'" in found.detail


def test_what_may_not_be_asked_is_a_warning() -> None:
    """Without the permission to ask, the deployment may still be allowed."""
    forbidden = StubbedSession({"service-quotas": applied("AccessDeniedException")})
    half = StubbedSession(
        {
            "service-quotas": applied(quota(2)),
            "sagemaker": [("list_endpoints", {}, "AccessDeniedException")],
        }
    )
    offline = StubbedSession({"service-quotas": [("list_service_quotas", ASKED, None)]})
    listed, (describe, _) = endpoint("other", {"a": (G5, 1, 1)})
    closed = running((listed, [(*describe[:2], "AccessDeniedException")]))
    most = StubbedSession({"service-quotas": applied(quota(2)), "sagemaker": closed})

    found = [quota_findings(G5, account=session)[0] for session in (forbidden, half, offline, most)]

    assert not any(finding.refused for finding in found)
    assert found[3].detail == found[1].detail
    assert "the quota of ml.g5.12xlarge could not be asked: AccessDenied" in found[0].detail
    assert "endpoint usage' of 2 is in use could not be asked: AccessDenied" in found[1].detail
    assert "could not be asked: EndpointConnectionError" in found[2].detail


def caller(said: Said) -> list[Call]:
    """Return who STS says that we are."""
    return [("get_caller_identity", {}, said)]


def simulated(source: str, decisions: Mapping[str, str] | str) -> list[Call]:
    """Return what IAM says of the caller's policies."""
    asked = {"PolicySourceArn": source, "ActionNames": list(DEPLOYING)}
    if isinstance(decisions, str):
        return [("simulate_principal_policy", asked, decisions)]
    results = [
        {"EvalActionName": action, "EvalDecision": decision}
        for action, decision in decisions.items()
    ]
    return [("simulate_principal_policy", asked, {"EvaluationResults": results})]


ROLE = "arn:aws:iam::123456789012:role/Measuring"
IN_ROLE = {"Arn": "arn:aws:sts::123456789012:assumed-role/Measuring/me@example.org"}


def test_what_the_policies_deny_is_named() -> None:
    """A role's session is asked by its role. It is a warning, as the simulation can be wrong."""
    decisions = {"sagemaker:CreateModel": "allowed", "sagemaker:CreateEndpoint": "implicitDeny"}
    session = StubbedSession({"sts": caller(IN_ROLE), "iam": simulated(ROLE, decisions)})

    (found,) = permission_findings(session)

    assert not found.refused
    assert found.detail == "the caller's policies do not seem to allow sagemaker:CreateEndpoint"


@pytest.mark.parametrize("decisions", ["AccessDenied", {"sagemaker:CreateModel": "allowed"}])
def test_what_is_allowed_or_not_to_be_found_out_is_no_finding(
    decisions: Mapping[str, str] | str,
) -> None:
    """Few may ask for the simulation, and that says nothing."""
    user = "arn:aws:iam::123456789012:user/me"
    session = StubbedSession({"sts": caller({"Arn": user}), "iam": simulated(user, decisions)})

    assert permission_findings(session) == []


@pytest.mark.parametrize(
    ("said", "why"), [("ExpiredToken", "ExpiredToken; sign in"), (None, "EndpointConnectionError")]
)
def test_credentials_that_do_not_work_refuse(said: Said, why: str) -> None:
    """Without them nothing can be deployed; the account's number is in no finding."""
    (found,) = permission_findings(StubbedSession({"sts": caller(said)}))

    assert found.refused
    assert why in found.detail
    assert "123456789012" not in found.detail


@pytest.mark.parametrize(
    ("model", "instance_type", "quantize", "refused"),
    [
        ("meta-llama/Llama-2-13b-hf", "ml.g5.2xlarge", None, True),
        ("meta-llama/Llama-2-13b-hf", "ml.g5.2xlarge", "gptq", None),
        ("TheBloke/Llama-2-13B-GPTQ", "ml.g5.2xlarge", None, None),
        ("TheBloke/Llama-2-70B-GPTQ", "ml.g5.12xlarge", None, None),
        ("meta-llama/Llama-2-70b-hf", "ml.g5.12xlarge", None, True),
        (LLAMA_2["70b"], "ml.p4d.24xlarge", None, None),
        ("mistralai/Mistral-7B", "ml.g5.2xlarge", None, False),
        ("meta-llama/Llama-2-7b-hf", "ml.m5.large", None, False),
        ("meta-llama/Llama-2-7b-hf", "ml.g5.2xlarge", "marlin", False),
    ],
)
def test_what_does_not_fit_is_refused(
    model: str | ModelShape, instance_type: str, quantize: str | None, *, refused: bool | None
) -> None:
    """As in the published study; what is not known is a warning, what fits is no finding."""
    found = fit_findings(model, instance_type, quantize=quantize)

    assert [finding.refused for finding in found] == ([] if refused is None else [refused])


def test_what_does_not_fit_is_said_with_its_figures() -> None:
    """The finding names the model, the instance and the memory."""
    (found,) = fit_findings("meta-llama/Llama-2-13b-hf", "ml.g5.2xlarge")

    assert found.detail.startswith("meta-llama/Llama-2-13b-hf does not fit on ml.g5.2xlarge: no ")
    assert "its weights take 26.0 of the 21.6 GB of each GPU" in found.detail


def test_a_load_that_has_to_wait_for_memory_is_a_warning() -> None:
    """It can be deployed, and the requests wait for each other. Fewer GPUs hold less."""
    demand = Demand(concurrency=20)
    (tight,) = fit_findings("TheBloke/Llama-2-13B-GPTQ", "ml.g5.2xlarge", demand=demand)

    assert not tight.refused
    assert "is tight on ml.g5.2xlarge: room for 7 of 20 requests" in tight.detail
    assert fit_findings("meta-llama/Llama-2-13b-hf", "ml.g5.12xlarge") == []
    (one,) = fit_findings("meta-llama/Llama-2-13b-hf", "ml.g5.12xlarge", gpus=1)
    assert one.refused
