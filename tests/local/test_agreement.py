"""What we measure of a real model agrees with what its server says of itself."""

import numpy as np
import pytest

from llmperf_core import Concurrency, Settings, Synthetic, bench
from llmperf_local import CpuModel


@pytest.mark.llm
def test_ttft_and_itl_agree_with_the_servers_own_timings() -> None:
    """At one request at a time, TTFT is the server's prompt time and ITL its time per token.

    Each within 5 %: nothing waits for anything but the model.
    """
    stage = bench(
        CpuModel("smollm2", slots=1),
        Concurrency(1),
        workload=Synthetic(192, 24),
        settings=Settings(duration_s=None, requests=8, warmup_s=0.5),
    )
    answered = [timeline for timeline in stage.timelines if timeline.completed]
    assert len(answered) >= 8
    ttft = [(t.token_at_ns[0] - (t.sent_at_ns or 0)) / t.server_ns["prompt"] for t in answered]
    itl = [
        np.diff(t.token_at_ns).mean() / t.server_ns["predicted_per_token"]
        for t in answered
        # A piece of a character is held back until it is whole: then the gaps are fewer.
        if len(t.token_at_ns) == t.tokens.output > 2
    ]
    assert np.median(ttft) == pytest.approx(1, abs=0.05)
    assert np.median(itl) == pytest.approx(1, abs=0.05)
    assert {t.stamps for t in answered} == {"kernel"}
    assert stage.summary.tokens.counted_by == "usage"
