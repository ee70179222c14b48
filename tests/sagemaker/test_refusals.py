"""What SageMaker says when it refuses, under a name for each reason."""

import json
from collections.abc import Mapping

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.target import Endpoint, Prompt
from llmperf_core.timeline import Failed
from llmperf_core.wire.tgi import Tgi
from llmperf_sagemaker.codec import Invocation, Route
from llmperf_sagemaker.refusals import MOST_REQUEST_BYTES, refusal_of
from tests.run.asking import asking_at, failure
from tests.scripted import answer, plays, serving

AT_NOON = "20261125T120000Z"


def refused(
    status: int,
    body: bytes | Mapping[str, object],
    code: str | None = None,
    *,
    date: str = "Wed, 25 Nov 2026 12:00:00 GMT",
    sent: bytes = b"{}",
) -> Failed | None:
    """Return what a response means that answers a request which was signed at noon."""
    request = httpx.Request(
        "POST", "https://x/endpoints/a/invocations", headers={"x-amz-date": AT_NOON}, content=sent
    )
    headers = {"date": date} | ({"x-amzn-ErrorType": code} if code else {})
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal_of(httpx.Response(status, headers=headers, request=request), said)


@pytest.mark.parametrize(
    ("status", "original", "message", "expected"),
    [
        (
            424,
            422,
            '{"error":"inputs must have less than 1024 tokens","error_type":"validation"}',
            Failed("http_422", "validation: inputs must have less than 1024 tokens"),
        ),
        (424, 429, '{"error":"Model is overloaded"}', Failed("http_429", "Model is overloaded")),
        (424, 500, "", Failed("http_500", "Received server error (500) from model")),
        (424, 400, None, Failed("http_400", "Received server error (400) from model")),
        (424, None, None, Failed("http_424", "Received server error (None) from model")),
        (424, 200, None, Failed("http_424", "Received server error (200) from model")),
        (424, "429", None, Failed("http_424", "Received server error (429) from model")),
    ],
)
def test_the_models_own_status_is_the_outcome(
    status: int, original: object, message: str | None, expected: Failed
) -> None:
    """As if the model's container had answered us itself."""
    body = {
        "Message": f"Received server error ({original}) from model",
        "OriginalStatusCode": original,
        "OriginalMessage": message,
        "LogStreamArn": "arn:aws:logs:us-west-2:123456789012:log-group:/aws/sagemaker/Endpoints/a",
    }
    assert refused(status, body, "ModelError") == expected


@pytest.mark.parametrize("status", [400, 429])
@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException"])
def test_throttling_has_one_name(status: int, code: str) -> None:
    """Whatever status it comes with: it is not in the service's model."""
    assert refused(status, {"message": "Rate exceeded"}, code) == Failed(
        "throttled", "Rate exceeded"
    )
    assert refused(status, {"__type": f"com.amazonaws#{code}", "message": "Rate exceeded"}) == (
        Failed("throttled", "Rate exceeded")
    )


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (
            "Endpoint llama of account 123456789012 not found.",
            "Endpoint llama of account *** not found.",
        ),
        (
            "Inference Component x not found in account 123456789012",
            "Inference Component x not found in account ***",
        ),
    ],
)
def test_a_missing_endpoint_is_named_and_the_account_is_not(said: str, detail: str) -> None:
    """It comes as a validation error."""
    url = "ValidationError:http://internal.amazon.com/coral/com.amazon.coral.validate/"

    assert refused(400, {"Message": said}, url) == Failed("missing_endpoint", detail)
    assert refused(400, {"Message": "1 error detected"}, url) == Failed(
        "validation_error", "1 error detected"
    )


@pytest.mark.parametrize(
    ("status", "code", "body", "expected"),
    [
        (
            503,
            "ServiceUnavailable",
            {"Message": None},
            Failed("service_unavailable", "ServiceUnavailable"),
        ),
        (500, "InternalFailure", b"", Failed("internal_failure", "InternalFailure")),
        (530, "InternalDependencyException", {"Message": "x"}, Failed("internal_dependency", "x")),
        (429, "ModelNotReadyException", {"Message": "soon"}, Failed("model_not_ready", "soon")),
        (
            403,
            "ExpiredTokenException",
            {"message": "The security token is expired"},
            Failed("expired_token", "The security token is expired"),
        ),
        (
            403,
            "AccessDeniedException",
            {"Message": "User: arn:aws:sts::123456789012:assumed-role/lab is not authorized"},
            Failed("access_denied", "User: arn:aws:sts::***:assumed-role/lab is not authorized"),
        ),
    ],
)
def test_awss_own_errors_keep_their_names(
    status: int, code: str, body: bytes | Mapping[str, object], expected: Failed
) -> None:
    """In our way of writing; also when they come without a message."""
    assert refused(status, body, code) == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Wed, 25 Nov 2026 12:20:00 GMT", "1200 s behind"),
        ("Wed, 25 Nov 2026 11:50:00 -0000", "600 s ahead of"),
    ],
)
@pytest.mark.parametrize("code", ["InvalidSignatureException", "SignatureDoesNotMatch"])
def test_a_wrong_clock_is_told_with_its_error(date: str, expected: str, code: str) -> None:
    """By the date of the response against that of the signature."""
    said = {"message": "Signature expired: 20261125T120000Z is now earlier than 20261125T121500Z"}

    assert refused(403, said, code, date=date) == Failed(
        "clock_skew", f"this machine's clock is {expected} AWS's: set it right"
    )


def test_a_wrong_clock_is_told_where_a_proxy_sets_the_date() -> None:
    """AWS says by which clock it judged."""
    said = (
        "Signature not yet current: 20261125T120000Z is still later than 20261125T115459Z "
        "(20261125T114959Z + 5 min.)"
    )
    assert refused(403, {"message": said}, "InvalidSignatureException") == Failed(
        "clock_skew", "this machine's clock is 601 s ahead of AWS's: set it right"
    )
    said = said.replace("20261125T114959Z", "20269999T999999Z")
    assert refused(403, {"message": said}, "InvalidSignatureException") == Failed(
        "bad_signature", said
    )


@pytest.mark.parametrize("date", ["Wed, 25 Nov 2026 12:01:00 GMT", "yesterday", ""])
def test_a_wrong_signature_is_not_the_clocks_fault(date: str) -> None:
    """And what AWS quotes of the request is not shown: the session's token is among it."""
    said = (
        "The request signature we calculated does not match the signature you provided.\n\n"
        "The Canonical String for this request should have been\n'POST\n/\n"
        "x-amz-security-token:secret-token'"
    )
    failed = refused(403, {"message": said}, "InvalidSignatureException", date=date)

    assert failed == Failed(
        "bad_signature",
        "The request signature we calculated does not match the signature you provided.",
    )


@pytest.mark.parametrize("status", [400, 413])
def test_too_large_a_request_is_named(status: int) -> None:
    """SageMaker takes 6 MiB, whatever it says of more."""
    large = b"x" * (MOST_REQUEST_BYTES + 1)

    assert refused(status, b"", sent=large) == Failed(
        "request_too_large", "6,291,457 bytes of body, and SageMaker takes 6,291,456"
    )
    assert refused(status, b"", sent=large[1:]) is None


@pytest.mark.parametrize(
    "body", [b"", b"<html><title>502</title>", b"[1]", b'{"code": 7}', b"\xff"]
)
def test_what_is_not_awss_is_left_at_its_status(body: bytes) -> None:
    """A proxy's page, for one."""
    assert refused(502, body) is None
    assert refused(502, body, "<no code>") is None


@given(
    st.integers(300, 599),
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(
            ["Message", "message", "__type", "code", "OriginalStatusCode", "OriginalMessage"]
        ),
        st.none()
        | st.integers()
        | st.text(max_size=9)
        | st.just("ModelError")
        | st.lists(st.none()),
    ),
    st.sampled_from([None, "ModelError", "InvalidSignatureException", "ValidationError"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)
def test_nothing_is_ever_raised(
    status: int, body: bytes | Mapping[str, object], code: str | None
) -> None:
    """Whatever comes, it is a failure with a name of one word, or left at its status."""
    failed = refused(status, body, code)

    assert failed is None or failed.error.isidentifier()


async def test_over_the_wire() -> None:
    """The outcome of a request is what SageMaker means; and it is asked once."""
    body = b'{"Message":"x","OriginalStatusCode":429,"OriginalMessage":"overloaded"}'
    head = answer(body, status=b"424 Failed Dependency").replace(
        b"\r\n", b"\r\nx-amzn-ErrorType: ModelError\r\n", 1
    )
    codec = Invocation(route=Route(endpoint="llama"), inner=Tgi())
    async with (
        serving(plays(head)) as url,
        asking_at(Endpoint(base_url=url, codec=codec)) as asker,
    ):
        timeline = await asker.ask(prompt=Prompt(text="Hi"))

    assert failure(timeline) == Failed("http_429", "overloaded")
