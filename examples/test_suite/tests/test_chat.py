"""What users of the chat feel: how soon an answer begins, and how fast it goes on."""

import pytest

import llmperf_core as lp

QUESTIONS = lp.Synthetic(input_tokens=64, output_tokens=32)


@pytest.mark.llmperf(slo="ttft.p90=2000,itl.p50=60")
def test_answers_begin_soon(llmperf_bench):
    """Nine of ten answers to eight users begin within two seconds."""
    stage = llmperf_bench(lp.Concurrency(8), workload=QUESTIONS, duration_s=3)
    assert stage.summary.requests.failed == 0


@pytest.mark.llmperf(baseline="chat")
def test_it_is_as_fast_as_it_was(llmperf_bench):
    """It fails only if it is slower than the baseline by more than 5 %, and not by chance."""
    llmperf_bench(lp.Concurrency(4), workload=QUESTIONS, duration_s=3)
