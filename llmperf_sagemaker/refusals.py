"""How SageMaker refuses a request or breaks off a stream, under a name that says whose doing it is.

http_422, http_429, …                                 the model's container answered so
throttled  model_not_ready  service_unavailable       SageMaker could not take it
missing_endpoint  request_too_large                   it never will
expired_token  clock_skew  bad_signature              it does not believe us
model_stream_error  internal_stream_failure           a stream that broke off

Any other of AWS's own errors has its code as its name: `InternalFailure` is `internal_failure`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec
from attrs import frozen

from llmperf_core.timeline import Failed
from llmperf_core.wire.errors import error_text
from llmperf_sagemaker.redaction import redacted

MOST_REQUEST_BYTES = 6 * 1024 * 1024
"""Source: the API's reference of InvokeEndpoint, and botocore's model of it (`BodyBlob`)."""

# Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html
_MOST_SKEW_S = 300
# `Signature expired: 20261125T120000Z is now earlier than 20261125T121500Z (20261125T122000Z - 5
# min.)`: AWS's own clock, which the date of a response is as well, unless a proxy has set it.
_JUDGED_AT = re.compile(r"\((\d{8}T\d{6}Z) [-+] \d+ min\.\)")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,79}")
_WORD_BEGINS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MISSING = re.compile(r"(endpoint|inference component|variant)\b.*\bnot found", re.IGNORECASE)
_INVALID = {"ValidationError", "ValidationException"}
# Not in the service's model, and seen with 400 and with 429.
_THROTTLED = {"Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException"}
_UNSIGNED = {"InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired"}


class _Body(msgspec.Struct):
    """The body of an error. AWS has several names for some fields."""

    Message: object = None
    message: object = None
    type: object = msgspec.field(name="__type", default=None)
    code: object = None
    ErrorCode: object = None
    OriginalStatusCode: object = None
    OriginalMessage: object = None


_BODY = msgspec.json.Decoder(_Body)


@frozen
class _Said:
    """What AWS said."""

    code: str
    """Its word for the error; empty if there was none."""
    message: str
    """On one line, shortened, without secrets; the code if there was none."""
    body: _Body

    @property
    def failed(self) -> Failed:
        """The failure of that code: `ModelStreamError` is `model_stream_error`."""
        name = _WORD_BEGINS.sub("_", self.code.removesuffix("Exception")).lower()
        return Failed(name, self.message)


def refusal_of(response: httpx.Response, body: bytes) -> Failed | None:
    """Return what a status other than 200 means; None if it does not seem to be AWS's. Pure."""
    sent_bytes = len(response.request.content)
    if response.status_code in (400, 413) and sent_bytes > MOST_REQUEST_BYTES:
        return Failed(
            "request_too_large",
            f"{sent_bytes:,} bytes of body, and SageMaker takes {MOST_REQUEST_BYTES:,}",
        )
    said = _read(body, response.headers.get("x-amzn-errortype"))
    if said.code == "ModelError":
        return _of_model(response.status_code, said)
    if said.code in _UNSIGNED:
        return _of_signature(response, said)
    if said.code in _THROTTLED:
        return Failed("throttled", said.message)
    if said.code in _INVALID and _MISSING.search(said.message):
        return Failed("missing_endpoint", said.message)
    return said.failed if said.code else None


def stream_failure_of(headers: Mapping[str, object], payload: bytes) -> Failed:
    """Return how a stream failed, given the message that broke it off. Pure."""
    if headers.get(":message-type") == "error":  # outside of the service's model
        code, message = headers.get(":error-code"), headers.get(":error-message")
        payload = msgspec.json.encode({"Message": message if isinstance(message, str) else None})
    else:
        code = headers.get(":exception-type")
    said = _read(payload, code if isinstance(code, str) else None)
    if not said.code:
        return Failed("in_band_error", said.message or "without a word")
    detail, failed = said.body.ErrorCode, said.failed
    return Failed(failed.error, f"{detail}: {failed.detail}") if detail else failed


def _read(body: bytes, code: str | None) -> _Said:
    """Read the body of an error, whose code may stand elsewhere."""
    try:
        fields, text = _BODY.decode(body), ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields, text = _Body(), body.decode(errors="replace")
    text = _first(fields.Message, fields.message) or text
    # `com.amazonaws.sagemaker#ModelError`, and `ModelError:http://internal.amazon.com/…`
    word = _first(code, fields.type, fields.code).partition(":")[0].rpartition("#")[2]
    code = word if _CODE.fullmatch(word) else ""
    return _Said(code, _one_line(text) or code, fields)


def _of_model(status: int, said: _Said) -> Failed:
    """Return the failure as if the model's container had answered us itself."""
    original = said.body.OriginalStatusCode
    if isinstance(original, int) and 400 <= original <= 599:
        status = original
    return Failed(f"http_{status}", _one_line(_first(said.body.OriginalMessage)) or said.message)


def _of_signature(response: httpx.Response, said: _Said) -> Failed:
    """Return the failure of a signature: a wrong clock is the usual reason, and can be told."""
    judged_at = _JUDGED_AT.search(said.message)
    try:
        signed = datetime.fromisoformat(response.request.headers["x-amz-date"])
        judged = (
            datetime.fromisoformat(judged_at[1])
            if judged_at
            else parsedate_to_datetime(response.headers["date"]).replace(tzinfo=UTC)
        )
    except (KeyError, ValueError):
        return Failed("bad_signature", said.message)
    ahead_s = round((signed - judged).total_seconds())
    if abs(ahead_s) < _MOST_SKEW_S:
        return Failed("bad_signature", said.message)
    way = "ahead of" if ahead_s > 0 else "behind"
    return Failed(
        "clock_skew", f"this machine's clock is {abs(ahead_s)} s {way} AWS's: set it right"
    )


def _first(*words: object) -> str:
    """Return the first of them that is a text with something in it; empty if none is."""
    return next((word for word in words if isinstance(word, str) and word), "")


def _one_line(text: str) -> str:
    return error_text(redacted(text).encode())
