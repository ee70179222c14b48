"""What servers show to Prometheus, read as our words.

`tests/data/metrics` holds pages in the servers' own formats: llama.cpp's as a real server wrote it;
vLLM's written by `prometheus_client`, as vLLM does, with the names of its `v1/metrics/loggers.py`
and two engines; SGLang's shortened from its documentation (`production_metrics.md`), with the
labels of its later versions; TGI's with the names and the layout of its router.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.wire.metrics_page import DIALECTS, LLAMA_CPP, TGI, VLLM, dialect_of

PAGES = Path(__file__).parents[1] / "data" / "metrics"

SAID: Mapping[str, Mapping[str, float]] = {
    "tgi": {
        "queued": 0,
        "running": 2,
        "kv_tokens": 4096,
        "requests": 2,
        "ended_tokens": 120,
        "input_tokens": 34,
        "total_s": 4.916,
        "validation_s": 0.0273,
        "queue_s": 0.00037,
        "inference_s": 4.888,
    },
    "vllm": {
        "queued": 3,
        "running": 20,
        "kv_use": 0.41,
        "requests": 4,
        "output_tokens": 1_001_000,
        "input_tokens": 10_000,
        "cached_tokens": 2_400,
        "looked_up_tokens": 10_000,
        "total_s": 7.5,
        "queue_s": 1.0,
        "inference_s": 6.25,
    },
    "sglang": {
        "queued": 2826,
        "running": 162,
        "kv_use": 0.28,
        "kv_tokens": 123_859,
        "requests": 11_228,
        "ended_tokens": 7_557_572,
        "input_tokens": 8_128_902,
        "cached_tokens": 4_500,
        "total_s": 3.116093850019932e06,
    },
    "llama_cpp": {
        "queued": 0,
        "running": 0,
        "ended_tokens": 48,
        "input_tokens": 33,
        "cached_tokens": 15,
    },
}


def page(name: str) -> str:
    """Return a page of the recorded ones."""
    return (PAGES / f"{name}.txt").read_text("utf-8")


@pytest.mark.parametrize("name", SAID)
def test_a_page_is_read_in_our_words(name: str) -> None:
    """Each server's own names come out as ours, engines added up, and what it lacks left out."""
    dialect = dialect_of(page(name))

    assert dialect is not None
    assert dialect.read(page(name)) == pytest.approx(SAID[name])


def test_an_older_name_counts_where_there_is_no_newer() -> None:
    """KV use had another name in vLLM before 0.9, and both stood side by side for a while."""
    older = page("vllm").replace("vllm:kv_cache_usage_perc", "vllm:something_else")

    assert VLLM.read(older.replace("0.41", "0.5"))["kv_use"] == 0.5
    assert VLLM.read(page("vllm"))["kv_use"] == 0.41


def test_a_stranger_is_no_dialect() -> None:
    """A page of somebody else, or none at all, is nobody's whom we know."""
    assert (
        dialect_of("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1\n")
        is None
    )
    assert dialect_of("<html>tgi_ and vllm: in a text</html>") is None
    assert dialect_of("") is None


def test_what_is_no_number_is_left_out() -> None:
    """A gauge that nobody has set yet is NaN, which is not 0."""
    said = TGI.read("tgi_queue_size NaN\ntgi_batch_current_size 3\ntgi_queue_size_extra 9\n")

    assert said == {"running": 3}


def test_a_broken_page_raises_one_error() -> None:
    """Whoever samples counts ValueErrors; nothing else may come out."""
    with pytest.raises(ValueError, match="could not convert"):
        LLAMA_CPP.read("llamacpp:requests_deferred{ 1\n")


@given(
    dialect=st.sampled_from(DIALECTS),
    rest=st.text(st.characters(codec="utf-8"), max_size=60),
)
def test_garbage_is_a_value_error_or_nothing(dialect: object, rest: str) -> None:
    """However a line of ours goes on, it is a number, nothing, or a ValueError."""
    assert isinstance(dialect, type(TGI))
    name = dialect.names["queued"][0]
    try:
        said = dialect.read(f"{name}{rest}\n")
    except ValueError:
        return
    assert set(said) <= set(dialect.names)
