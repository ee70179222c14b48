"""Signatures: right, over the bytes that are sent, with keys that never show and never block."""

import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import cloudpickle
import httpx
import pytest
from anyio.lowlevel import checkpoint
from botocore.credentials import RefreshableCredentials

from llmperf_core.errors import MissingExtraError, UsageError
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.signing import SigV4
from tests.sagemaker.keys import KEY, SECRET, TOKEN, forget_account, take_keys

WEST = Account(region="us-west-2")
URL = "https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/llama/invocations"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_account(monkeypatch, tmp_path)
    take_keys(monkeypatch)


def signed(auth: httpx.Auth, request: httpx.Request) -> httpx.Request:
    """Return the request as it is sent."""
    return next(auth.sync_auth_flow(request))


async def signed_on_loop(auth: httpx.Auth, request: httpx.Request) -> httpx.Request:
    """Return the request as it is sent, signed on the event loop."""
    return await anext(auth.async_auth_flow(request))


@pytest.mark.parametrize(
    ("headers", "body", "names", "signature"),
    [
        (
            {},
            b"",
            "host;x-amz-date",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            {"content-type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
    ids=["post-vanilla", "post-x-www-form-urlencoded"],
)
def test_signatures_are_those_of_awss_test_suite(
    monkeypatch: pytest.MonkeyPatch,
    headers: Mapping[str, str],
    body: bytes,
    names: str,
    signature: str,
) -> None:
    """Source: AWS's Signature Version 4 test suite, as AWS's own libraries carry it."""
    monkeypatch.setattr(
        "botocore.auth.get_current_datetime", lambda: datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    )
    auth = SigV4(Account(region="us-east-1"), "service")
    request = httpx.Request("POST", "https://example.amazonaws.com/", headers=headers, content=body)

    assert signed(auth, request).headers["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={KEY}/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


async def test_what_is_signed_is_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host, the type, AWS's own headers and the session; not what a proxy may change."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    body = b'{"inputs": "as it is",   "spaces": 2}'
    headers = {
        "content-type": "application/json",
        "X-Amzn-SageMaker-Accept": "application/json",
        "accept": "*/*",
        "authorization": "Bearer of-somebody-else",
    }
    async with httpx.AsyncClient() as client:
        request = client.build_request("POST", URL, content=body, headers=headers)
    sent = await signed_on_loop(SigV4(WEST), request)

    assert sent.content == body
    assert sent.headers["x-amz-security-token"] == TOKEN
    assert sent.headers["accept"] == "*/*"
    assert (
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amzn-sagemaker-accept,"
        in sent.headers["authorization"]
    )
    assert sent.headers.get_list("authorization") == [sent.headers["authorization"]]


async def test_a_signature_travels_without_its_keys() -> None:
    """To the measuring process; there the chain is asked again."""
    auth = SigV4(Account(region="us-west-2", profile=None))
    auth.load()
    for packed in (pickle.dumps(auth), cloudpickle.dumps(auth)):
        assert SECRET.encode() not in packed
        assert KEY.encode() not in packed
        travelled = cloudpickle.loads(packed)
        request = await signed_on_loop(travelled, httpx.Request("POST", URL))
        assert f"Credential={KEY}/" in request.headers["authorization"]
    assert SECRET not in f"{auth!r}{auth}"
    assert SECRET not in f"{request!r}{request.headers!r}"
    assert KEY not in repr(request.headers)


def test_a_profile_is_taken_where_it_is_named(tmp_path: Path) -> None:
    """Over what the environment holds."""
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = AKIDLAB\naws_secret_access_key = lab\n"
    )
    auth = SigV4(Account(region="us-west-2", profile="lab"))

    sent = signed(auth, httpx.Request("POST", URL))
    assert "Credential=AKIDLAB/" in sent.headers["authorization"]

    with pytest.raises(UsageError, match=r"none.*could not be found; see: aws configure list"):
        SigV4(Account(region="us-west-2", profile="none")).load()


def test_no_keys_are_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None at all, half of a pair, and what cannot be fetched."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UsageError, match=r"no AWS credentials .*AWS_SECRET_ACCESS_KEY") as raised:
        SigV4(WEST).load()
    assert KEY not in "".join(traceback.format_exception(raised.value))

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(
        UsageError, match=r"no AWS credentials; set AWS_PROFILE, or .* aws sso login"
    ):
        SigV4(WEST).load()


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself is imported without it."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"llmperf-toolkit\[sagemaker\]"):
        SigV4(WEST).load()


def of_session(name: str, lasts: timedelta) -> dict[str, str]:
    """Return temporary keys as botocore wants them from who renews them."""
    return {
        "access_key": f"AKID{name}",
        "secret_key": SECRET,
        "token": TOKEN,
        "expiry_time": (datetime.now(UTC) + lasts).isoformat(),
    }


def temporary(lasts: timedelta, renew: Callable[[], dict[str, str]]) -> SigV4:
    """Return a signature with keys that last so long and are then renewed."""
    auth = SigV4(WEST)
    auth._source = RefreshableCredentials.create_from_metadata(
        of_session("OLD", timedelta(hours=1)), refresh_using=renew, method="test"
    )
    auth.load()
    auth._source._expiry_time = datetime.now(UTC) + lasts
    return auth


async def test_keys_are_renewed_ahead_of_expiry_and_nobody_waits() -> None:
    """While a thread renews them, requests are signed with the old ones; then with the new."""
    may_answer, asked = threading.Event(), 0

    def renew() -> dict[str, str]:
        nonlocal asked
        asked += 1
        may_answer.wait()
        return of_session("NEW", timedelta(hours=1))

    auth = temporary(timedelta(minutes=12), renew)
    for _ in range(3):
        request = await signed_on_loop(auth, httpx.Request("POST", URL))
        assert "Credential=AKIDOLD/" in request.headers["authorization"]
    may_answer.set()
    with anyio.fail_after(20):
        while "AKIDNEW" not in request.headers["authorization"]:
            request = await signed_on_loop(auth, httpx.Request("POST", URL))
            await checkpoint()
    assert asked == 1


async def test_expired_keys_are_renewed_before_they_are_used() -> None:
    """As after a machine was asleep: in a thread, and the request waits."""
    auth = temporary(timedelta(seconds=-1), lambda: of_session("NEW", timedelta(hours=1)))
    request = await signed_on_loop(auth, httpx.Request("POST", URL))

    assert "Credential=AKIDNEW/" in request.headers["authorization"]


async def test_keys_that_cannot_be_renewed_are_used_to_their_end() -> None:
    """A request that fails for it is data, and says that its session has expired."""
    asked = threading.Event()

    def renew() -> dict[str, str]:
        asked.set()
        raise OSError("no network")

    auth = temporary(timedelta(minutes=12), renew)
    for _ in range(2):
        request = await signed_on_loop(auth, httpx.Request("POST", URL))
        await anyio.to_thread.run_sync(asked.wait)
        assert "Credential=AKIDOLD/" in request.headers["authorization"]
