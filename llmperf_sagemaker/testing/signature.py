"""AWS Signature Version 4, as a service checks it on the bytes that it received.

It is written from the specification and shares nothing with botocore's signer, so that the two
check each other.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from attrs import frozen

from llmperf_core.testing.connection import Received
from llmperf_sagemaker.testing.account import Account, Key
from llmperf_sagemaker.testing.refusal import RefusedError

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} +Credential=(?P<key>[^/]+)/(?P<day>\d{{8}})/(?P<region>[^/]+)"
    r"/(?P<service>[^/]+)/aws4_request"
    r", *SignedHeaders=(?P<signed>[^,]+), *Signature=(?P<signature>[0-9a-f]{64})"
)
_WINDOW = timedelta(minutes=5)
_FORMAT = "%Y%m%dT%H%M%SZ"
_ANY_REGION = {"pricing", "sts"}
"""Services with one endpoint for many regions."""


@frozen
class Signatures:
    """Checks who sent a request, and that it is what was signed."""

    _account: Account

    def check(self, request: Received, service: str) -> None:
        """Let a request pass that a key of the account signed for this service.

        Raises:
            RefusedError: it is none.
        """
        said = request.headers.get("authorization")
        if said is None:
            raise _refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        parts = _AUTHORIZATION.fullmatch(said)
        if parts is None:
            raise _refused("IncompleteSignatureException", "Authorization header is malformed.")
        self._check_time(request.headers.get("x-amz-date", ""), parts["day"])
        self._check_scope(parts["region"], parts["service"], service)
        key = self._key(parts["key"], request.headers.get("x-amz-security-token"))
        signed = parts["signed"].split(";")
        _check_signed(signed, request.headers)
        expected = _signature(request, signed, parts, key.secret)
        if not hmac.compare_digest(expected, parts["signature"]):
            raise _invalid(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service "
                "documentation for details."
            )

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._account.skew_s)

    def _check_time(self, said: str, day: str) -> None:
        try:
            sent_at = datetime.strptime(said, _FORMAT).replace(tzinfo=UTC)
        except ValueError:
            raise _refused("IncompleteSignatureException", "no 'X-Amz-Date' header") from None
        now = self._now()
        if sent_at < now - _WINDOW:
            earliest = f"{now - _WINDOW:{_FORMAT}} ({now:{_FORMAT}} - 5 min.)"
            raise _invalid(f"Signature expired: {said} is now earlier than {earliest}")
        if sent_at > now + _WINDOW:
            latest = f"{now + _WINDOW:{_FORMAT}} ({now:{_FORMAT}} + 5 min.)"
            raise _invalid(f"Signature not yet current: {said} is still later than {latest}")
        if not said.startswith(day):
            raise _invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 date")

    def _check_scope(self, region: str, signed_for: str, service: str) -> None:
        if signed_for != service:
            raise _invalid(f"Credential should be scoped to correct service: '{service}'.")
        if region != self._account.region and service not in _ANY_REGION:
            raise _invalid(f"Credential should be scoped to a valid region, not '{region}'.")

    def _key(self, key_id: str, token: str | None) -> Key:
        for key in self._account.keys:
            if key.id == key_id and key.token == token:
                if key.expires_at is not None and key.expires_at <= self._now():
                    raise _refused(
                        "ExpiredTokenException",
                        "The security token included in the request is expired",
                    )
                return key
        raise _refused(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )


def _check_signed(signed: list[str], headers: Mapping[str, str]) -> None:
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    if missing := sorted(needed.difference(signed)):
        raise _invalid(f"these headers must be signed: {', '.join(missing)}")
    if absent := sorted(set(signed).difference(headers)):
        raise _invalid(f"these headers were signed and are not there: {', '.join(absent)}")


def _signature(request: Received, signed: list[str], parts: re.Match[str], secret: str) -> str:
    scope = f"{parts['day']}/{parts['region']}/{parts['service']}/aws4_request"
    hashed = hashlib.sha256(_canonical(request, signed).encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{request.headers['x-amz-date']}\n{scope}\n{hashed}"
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def _canonical(request: Received, signed: list[str]) -> str:
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~"))
        for name, value in parse_qsl(request.query, keep_blank_values=True)
    )
    return "\n".join(
        (
            request.method,
            quote(request.path, safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _invalid(message: str) -> RefusedError:
    return _refused("InvalidSignatureException", message)


def _refused(code: str, message: str) -> RefusedError:
    return RefusedError(code, message, status=403)
