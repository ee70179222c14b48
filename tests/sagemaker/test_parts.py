"""A model's stream in SageMaker's messages: botocore's own parser reads what was put in."""

import json
import random

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from llmperf_sagemaker.testing import BrokenStream
from llmperf_sagemaker.testing.parts import Parts

reads = st.lists(st.binary(min_size=1))


def payloads(messages: bytes) -> list[bytes]:
    """Return the payloads of whole messages, as botocore parses them."""
    buffer = EventStreamBuffer()
    buffer.add_data(messages)
    return [event.payload for event in buffer]


@given(reads=reads)
def test_each_read_is_a_part(reads: list[bytes]) -> None:
    """Uncut, what one read brought is the payload of one message."""
    wrapped = [Parts(None, None).wrap(data) for data in reads]

    assert payloads(b"".join(messages for messages, _ in wrapped)) == reads
    assert all(after == "go on" for _, after in wrapped)


@given(reads=reads, seed=st.integers())
def test_cut_parts_join_to_the_same(reads: list[bytes], seed: int) -> None:
    """Cut, the payloads join to what was read; none is empty, and a seed cuts always alike."""

    def cut() -> bytes:
        parts = Parts(None, random.Random(seed))  # noqa: S311 -- no secret
        return b"".join(parts.wrap(data)[0] for data in reads)

    found = payloads(cut())

    assert b"".join(found) == b"".join(reads)
    assert b"" not in found
    assert cut() == cut()


def test_long_reads_are_cut() -> None:
    """A cut read has several parts."""
    messages, _ = Parts(None, random.Random(0)).wrap(bytes(1000))  # noqa: S311 -- no secret

    assert len(payloads(messages)) > 1


@given(reads=st.lists(st.binary(min_size=1), min_size=3), after=st.integers(0, 2))
def test_a_fault_comes_after_its_parts(reads: list[bytes], after: int) -> None:
    """So many parts are whole, and then the stream is as it is no more."""
    parts = Parts(BrokenStream(fault="truncated", after_parts=after), None)
    wrapped = [parts.wrap(data) for data in reads[: after + 1]]

    assert payloads(b"".join(messages for messages, _ in wrapped)) == reads[:after]
    assert [then for _, then in wrapped] == [*["go on"] * after, "end"]


@given(data=st.binary(min_size=1))
def test_a_flipped_bit_is_found(data: bytes) -> None:
    """One bit of a payload is wrong, which its checksum tells."""
    parts = Parts(BrokenStream(fault="flipped-bit", after_parts=0), None)
    messages, after = parts.wrap(data)
    following, _ = parts.wrap(data)

    with pytest.raises(ChecksumMismatch):
        payloads(messages)
    assert after == "go on"
    assert payloads(following) == [data]


def test_an_error_of_the_model_has_its_code() -> None:
    """The message that ends a stream says which error it is, which boto3 does not pass on."""
    fault = BrokenStream(
        fault="model-stream-error", after_parts=0, error_code="ModelInvocationTimeExceeded"
    )
    messages, after = Parts(fault, None).wrap(b"data")
    buffer = EventStreamBuffer()
    buffer.add_data(messages)
    event = next(buffer)

    assert event.headers[":message-type"] == "exception"
    assert event.headers[":exception-type"] == "ModelStreamError"
    assert json.loads(event.payload)["ErrorCode"] == "ModelInvocationTimeExceeded"
    assert after == "end"
