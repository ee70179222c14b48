"""The container's log: whatever its form, the same timings to the nanosecond."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.errors import DecodeError
from llmperf_sagemaker.container_log import Success, success_of
from tests.sagemaker.tgi_log import AT, PLAIN, json_line, rust, text_line

SUCCESS = Success(
    at=AT,
    total_ns=2_458_150_804,
    validation_ns=13_678_487,
    queue_ns=184_260,
    inference_ns=2_444_287_897,
    time_per_token_ns=24_442_878,
    seed=42,
)
durations = st.integers(0, 10**4) | st.integers(0, 10**9) | st.integers(0, 10**13)
successes = st.builds(
    Success,
    at=st.datetimes(timezones=st.just(UTC), min_value=datetime(2023, 1, 1)),  # noqa: DTZ001 -- `timezones` adds it
    total_ns=durations,
    validation_ns=durations,
    queue_ns=durations,
    inference_ns=durations,
    time_per_token_ns=durations,
    seed=st.none() | st.integers(0, 2**64 - 1),
)
HOSTILE = [
    PLAIN,
    PLAIN.partition("GenerateParameters")[2].replace("s", "ms"),
    '"}: Success',
    "\\",
    "{{{(((\"'",
    "a\nb: Success",
]


def test_a_line_of_tgi_3_is_read() -> None:
    """Seconds, milliseconds and microseconds in one line; 100 tokens follow from them."""
    assert success_of(PLAIN) == SUCCESS
    assert SUCCESS.tokens == 100


@given(success=successes, prompt=st.text() | st.sampled_from(HOSTILE))
def test_every_form_says_the_same(success: Success, prompt: str) -> None:
    """Plain, coloured and JSON lines hold the same figures, whatever the prompt in them says."""
    assert success_of(text_line(success, prompt=prompt)) == success
    assert success_of(text_line(success, prompt=prompt, colour=True)) == success
    assert success_of(json_line(success)) == success
    assert success_of(json_line(success, flat=False)) == success
    assert success_of(json_line(success, inner=False) + "\n") == success


@given(st.integers(0, 10**13), st.integers(1, 4096))
def test_the_tokens_are_exact(inference_ns: int, tokens: int) -> None:
    """The time per token is cut off to whole nanoseconds, which loses no token of a real answer."""
    told = Success(
        at=None,
        total_ns=inference_ns,
        validation_ns=0,
        queue_ns=0,
        inference_ns=inference_ns,
        time_per_token_ns=inference_ns // tokens,
        seed=None,
    )

    if inference_ns // tokens > 2 * tokens:  # 8 µs a token, at 4,096
        assert told.tokens == tokens
    if inference_ns < tokens:
        assert told.tokens is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Success ",
        "2026-11-24T12:00:00Z  INFO text_generation_router: router/src/main.rs:1: Connected",
        "INFO Successfully downloaded weights.",
        "2026-11-24T12:00:00Z  INFO generate{x=1}: router/src/server.rs:1: Not a Success story",
        "{",
        '{"message": "Connected"}',
        '{"fields": 3}',
        "[1]",
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    """A log is full of lines that are of no answer."""
    if line.strip() == "Success":
        with pytest.raises(DecodeError, match="has no timings"):
            success_of(line)
    else:
        assert success_of(line) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (PLAIN.replace("184.26µs", "soon"), "queue_time='soon'"),
        (PLAIN.replace("184.26µs", "1.5ns"), "no whole nanoseconds"),
        (PLAIN.replace('queue_time="184.26µs" ', ""), "queue_time='None'"),
        (PLAIN.replace('"}:', '" later=3}:'), "has no timings"),
        ('{"message": "Success"}', "has no timings"),
        ('{"message": "Success", "span": {"total_time": 3}}', "total_time='3'"),
    ],
)
def test_an_answer_whose_timings_cannot_be_read_is_an_error(line: str, why: str) -> None:
    """A change of the format is seen, and not taken for silence."""
    with pytest.raises(DecodeError, match=why):
        success_of(line)


@given(st.text() | st.text().map(lambda text: f"{text}: Success") | st.text().map("{{{}".format))
def test_garbage_is_nothing_or_a_decode_error(line: str) -> None:
    """Whatever a container writes, nothing else is raised."""
    try:
        assert success_of(line) is None
    except DecodeError:
        return


def test_durations_are_written_as_rust_does() -> None:
    """What the tests write is what Rust's documentation shows."""
    assert [rust(n) for n in (0, 520, 184_260, 13_678_487, 10**9, 2_458_150_804)] == [
        "0ns",
        "520ns",
        "184.26µs",
        "13.678487ms",
        "1s",
        "2.458150804s",
    ]
