"""The fake's signature check, which shares nothing with botocore's signer, held against it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit

import pytest
from attrs import evolve
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.testing.connection import Received
from llmperf_sagemaker.testing import Account, FakeSageMaker, Key
from llmperf_sagemaker.testing.refusal import RefusedError
from llmperf_sagemaker.testing.signature import Signatures
from tests.sagemaker.clients import boto, refused

KEY = Account().keys[0]
SESSION = Key(id="ASIAFAKE", secret="another/secret", token="a+token/of=many//bytes==")
ACCOUNT = Account(keys=(KEY, SESSION))
URL = "http://127.0.0.1:1/endpoints/e/invocations"

printable = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1)


def signed(
    body: bytes = b"",
    *,
    key: Key = KEY,
    url: str = URL,
    more: Mapping[str, str] | None = None,
    service: str = "sagemaker",
    region: str = "us-west-2",
) -> Received:
    """Return a request as it arrives, that botocore has signed."""
    parts = urlsplit(url)
    request = AWSRequest("POST", url, data=body, headers={"host": parts.netloc, **(more or {})})
    credentials = Credentials(key.id, key.secret, key.token)
    SigV4Auth(credentials, service, region).add_auth(request)
    return Received(
        method="POST",
        path=parts.path,
        query=parts.query,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        too_long=False,
        last=False,
    )


def check(request: Received, account: Account = ACCOUNT, service: str = "sagemaker") -> None:
    """Check a request as the fake does."""
    Signatures(account).check(request, service)


def refusal(request: Received, account: Account = ACCOUNT, service: str = "sagemaker") -> str:
    """Return the name of the error that a request is refused with."""
    with pytest.raises(RefusedError) as caught:
        check(request, account, service)
    assert caught.value.status == 403
    return caught.value.code


@given(body=st.binary(), key=st.sampled_from([KEY, SESSION]), value=printable.map(str.strip))
def test_what_botocore_signs_is_taken(body: bytes, key: Key, value: str) -> None:
    """Whatever the body and the headers are, what botocore signed passes, with a session too."""
    check(signed(body, key=key, more={"x-amzn-sagemaker-custom-attributes": value}))


@given(
    pairs=st.dictionaries(printable, printable, max_size=4),
    name=printable.filter(lambda name: name not in {".", ".."}),
)
def test_targets_are_checked(pairs: dict[str, str], name: str) -> None:
    """Whatever stands in the path and the query, both count as botocore counts them."""
    url = f"http://127.0.0.1:1/endpoints/{quote(name, safe='')}?{urlencode(pairs, quote_via=quote)}"
    request = signed(b"{}", url=url)
    check(request)

    assert refusal(evolve(request, query=request.query + "&more=1")) == "InvalidSignatureException"
    assert refusal(evolve(request, path=request.path + "x")) == "InvalidSignatureException"


@given(body=st.binary(), other=st.binary(), key=st.sampled_from([KEY, SESSION]))
def test_a_changed_body_is_refused(body: bytes, other: bytes, key: Key) -> None:
    """A body other than the one that was signed does not pass."""
    request = signed(body, key=key)
    changed = other if other != body else body + b"x"

    assert refusal(evolve(request, body=changed)) == "InvalidSignatureException"


@given(body=st.binary(), secret=st.text(min_size=1).filter(lambda secret: secret != KEY.secret))
def test_a_wrong_secret_is_refused(body: bytes, secret: str) -> None:
    """A signature with any other secret does not pass."""
    request = signed(body, key=evolve(KEY, secret=secret))

    assert refusal(request) == "InvalidSignatureException"


def test_a_changed_header_is_refused() -> None:
    """A header that was signed may not be changed or left out."""
    request = signed(more={"x-amzn-sagemaker-target-variant": "a"})
    headers = dict(request.headers)
    other = evolve(request, headers={**headers, "x-amzn-sagemaker-target-variant": "b"})
    del headers["x-amzn-sagemaker-target-variant"]

    assert refusal(other) == "InvalidSignatureException"
    assert refusal(evolve(request, headers=headers)) == "InvalidSignatureException"


def test_an_unsigned_header_is_taken() -> None:
    """A header that a client adds after signing breaks nothing, unless it has to be signed."""
    request = signed()
    more = {**request.headers, "user-agent": "any"}
    check(evolve(request, headers=more))

    unsigned = evolve(request, headers={**more, "x-amz-meta": "any"})
    assert refusal(unsigned) == "InvalidSignatureException"


def test_a_request_without_a_signature_is_refused() -> None:
    """No signature, and one that is none, each have their name."""
    request = signed()
    bare = {name: value for name, value in request.headers.items() if name != "authorization"}
    undated = {name: value for name, value in request.headers.items() if name != "x-amz-date"}
    broken = {**request.headers, "authorization": "Bearer token"}

    assert refusal(evolve(request, headers=bare)) == "MissingAuthenticationTokenException"
    assert refusal(evolve(request, headers=broken)) == "IncompleteSignatureException"
    assert refusal(evolve(request, headers=undated)) == "IncompleteSignatureException"


def test_the_scope_is_checked() -> None:
    """Another service, region or day than the request's own does not pass."""
    request = signed()
    said = request.headers["authorization"]
    today = request.headers["x-amz-date"][:8]
    other_day = {**request.headers, "authorization": said.replace(f"/{today}/", "/20200101/")}

    assert refusal(signed(service="bedrock")) == "InvalidSignatureException"
    assert refusal(signed(region="eu-west-1")) == "InvalidSignatureException"
    assert refusal(evolve(request, headers=other_day)) == "InvalidSignatureException"
    check(signed(service="pricing", region="us-east-1"), service="pricing")


@pytest.mark.parametrize("skew_s", [-330, 330])
def test_a_clock_may_be_five_minutes_off(skew_s: float) -> None:
    """A request that is signed too early or too late is refused, and one within the window not."""
    request = signed()
    check(request, evolve(ACCOUNT, skew_s=skew_s * 0.8))

    assert refusal(request, evolve(ACCOUNT, skew_s=skew_s)) == "InvalidSignatureException"


def test_a_key_must_be_known() -> None:
    """An unknown key, a key with another's token and one without its own are refused."""
    unknown = "UnrecognizedClientException"

    assert refusal(signed(key=evolve(KEY, id="AKIAOTHER"))) == unknown
    assert refusal(signed(key=evolve(SESSION, token=None))) == unknown
    assert refusal(signed(key=evolve(KEY, token="none of its own"))) == unknown


def test_a_session_expires() -> None:
    """A session's token is taken until its end, and then refused as expired."""
    now = datetime.now(UTC)
    ended = Account(keys=(evolve(SESSION, expires_at=now),))
    open_still = Account(keys=(evolve(SESSION, expires_at=now + timedelta(hours=1)),))
    check(signed(key=SESSION), open_still)

    assert refusal(signed(key=SESSION), ended) == "ExpiredTokenException"


def test_boto3_sees_the_refusals() -> None:
    """boto3's own client names a wrong clock and an expired session, on both planes."""
    ended = Key(token="over", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    for account, code in (
        (Account(skew_s=600), "InvalidSignatureException"),
        (Account(keys=(ended,)), "ExpiredTokenException"),
    ):
        with FakeSageMaker(account=account) as fake:
            with refused(code):
                boto(fake).list_models()
            with refused(code):
                boto(fake, "sagemaker-runtime").invoke_endpoint(EndpointName="e", Body=b"{}")
            assert fake.calls == ()


def test_no_key_is_shown() -> None:
    """Neither the key nor the account nor the fake shows a secret."""
    shown = f"{SESSION!r} {ACCOUNT!r} {FakeSageMaker(account=ACCOUNT)!r}"

    assert SESSION.secret not in shown
    assert str(SESSION.token) not in shown
