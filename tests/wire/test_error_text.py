"""What is kept of the body of an HTTP error."""

import pytest
from hypothesis import given

from llmperf_core.wire.errors import error_text
from tests.strategies import garbage, recorded

TGI, LLAMA, VLLM, OTHERS = (
    "tgi/08_http_errors_non_stream",
    "openai/llama_cpp",
    "openai/vllm",
    "openai/others",
)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (recorded(TGI, "overloaded"), "overloaded: Model is overloaded"),
        (
            recorded(TGI, "no_content_type"),
            "Expected request with `Content-Type: application/json`",
        ),
        (recorded(TGI, "bad_or_missing_api_key"), ""),
        (
            recorded(LLAMA, "no_messages"),
            "invalid_request_error: 'messages' is required",
        ),
        (recorded(LLAMA, "info_not_found"), "not_found_error: File Not Found"),
        (recorded(VLLM, "model_not_found"), "NotFoundError: The model `x` does not exist."),
        (
            recorded(VLLM, "bad_request_before_0_10"),
            "BadRequestError: max_tokens must be at least 1, got 0.",
        ),
        (recorded(VLLM, "unauthorized"), "Unauthorized"),
        (recorded(OTHERS, "fastapi_missing_field"), "missing: Field required (body.messages)"),
        (recorded(OTHERS, "fastapi_not_found"), "Not Found"),
        (recorded(OTHERS, "nginx_bad_gateway"), "HTML page: 502 Bad Gateway"),
        (b"\n<!DOCTYPE html><title>\n a &amp; b </title>", "HTML page: a & b"),
        (b"<html><body>hm", "HTML page"),
        (b'{"Message":"Signature expired","__type":"x"}', "Signature expired"),
        (b'{"reason":"odd","status":3}', '{"reason":"odd","status":3}'),
        (b'"just a string"', "just a string"),
        (b"three\r\n\tlines \x1b[31mred\n", "three lines [31mred"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
        (b" \n", ""),
        (b"x" * 201, "x" * 199 + "…"),
    ],
)
def test_known_shapes(body: bytes, text: str) -> None:
    """The message is found where each server puts it, its kind before it."""
    assert error_text(body) == text


@given(body=garbage)
def test_always_one_short_line(body: bytes) -> None:
    """Whatever comes, the text is one line of printable characters, at most 200 of them."""
    text = error_text(body)
    assert len(text) <= 200
    assert text.isprintable()


def test_nesting_is_survived() -> None:
    """JSON that is nested too deep to walk is shown as it is."""
    assert error_text(b'{"error":' * 400 + b'"x"' + b"}" * 400)
    assert error_text(b"[" * 99_999).startswith("[[")
