"""A stage whose truth is known, and what a summary says of it."""

from collections.abc import Callable

import numpy as np
import pytest
from attrs import evolve, fields

from llmperf_core.judge import E2E, TTFT, Slo, Summary, summarize, summarize_metric
from llmperf_core.judge import summary as module
from llmperf_core.judge.quantity import Quantity
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, Poisson, Ramp
from llmperf_core.timeline import (
    Cancelled,
    Censored,
    Completed,
    Connection,
    Failed,
    Observation,
    Stamps,
    Timeline,
    TokenCount,
    Window,
)
from llmperf_core.units import NS_PER_MS, NS_PER_S

WINDOW = Window(open_at_ns=10 * NS_PER_S, close_at_ns=20 * NS_PER_S)
OBSERVATION = Observation(
    window=WINDOW, ended_at_ns=25 * NS_PER_S, started_at="2024-01-01T00:00:00Z", client_cpu_ns=0
)


def answer(sent_ms: int, *, ttft_ms: int = 100, gap_ms: int = 20, tokens: int = 5) -> Timeline:
    """Return a completed request that ended with its last token."""
    token_ms = [sent_ms + ttft_ms + k * gap_ms for k in range(tokens)]
    return Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=sent_ms * NS_PER_MS,
        token_at_ns=[ms * NS_PER_MS for ms in token_ms],
        read_lag_ns=[10_000] * tokens,
        ended_at_ns=token_ms[-1] * NS_PER_MS,
        outcome=Completed("length"),
        tokens=TokenCount(output=tokens, input=7, cached=2, counted_by="usage"),
        asked_tokens=tokens,
        connection=Connection(fresh=False),
        stamps="kernel",
    )


def summary_of(
    *timelines: Timeline,
    load: LoadProfile = Concurrency(1),  # noqa: B008 -- frozen
    slo: Slo | None = None,
) -> Summary:
    """Return the summary over the window from 10 s to 20 s."""
    return summarize(timelines, OBSERVATION, load=load, slo=slo)


def value(quantity: Quantity | None) -> float:
    """Return the number of a quantity that must be there."""
    assert quantity is not None
    return quantity.value


# 400 requests, one every 25 ms from 10 s on; TTFT 100 … 499 ms, all gaps 20 ms.
STAGE = [answer(10_000 + 25 * k, ttft_ms=100 + k) for k in range(400)]


def test_distributions_are_those_that_were_made() -> None:
    """Count, mean, extremes and percentiles of TTFT, gaps, TPOT and E2E by construction."""
    summary = summary_of(*STAGE)
    ttft = summary["ttft"]
    assert (ttft.count, value(ttft.min), value(ttft.max)) == (400, 100, 499)
    assert value(ttft.mean) == pytest.approx(299.5)
    assert value(ttft.p50) == pytest.approx(299.5)
    assert value(ttft.p90) == pytest.approx(100 + 0.9 * 399)
    assert value(ttft.p99) == pytest.approx(100 + 0.99 * 399)
    assert ttft.p99_9 is None
    assert summary["itl"].count == 1600
    assert repr(summary["itl"].p95) == "20.0 ms [20.0, 20.0]"
    assert value(summary["tpot"].p50) == pytest.approx(20)
    assert value(summary["e2e"].max) == 499 + 80
    assert value(summary["read_lag"].max) == 0.01


def test_a_percentile_carries_its_interval() -> None:
    """Batches that are as alike as these make 400 values worth 800: two ranks 55 apart of them."""
    mixed = [answer(10_000 + 25 * k, ttft_ms=100 + 173 * k % 400) for k in range(400)]
    p50 = summary_of(*mixed)["ttft"].p50
    assert p50 is not None
    assert p50.ci95 == pytest.approx((299.5 - 13.9, 299.5 + 13.9), abs=0.2)
    assert repr(p50) == "300 ms [286, 313]"


def test_a_trend_widens_the_interval() -> None:
    """400 values in rising order are worth few: no two of their batches agree on the median."""
    p50 = summary_of(*STAGE)["ttft"].p50
    assert p50 is not None
    assert p50.ci95 is not None
    assert p50.ci95[1] - p50.ci95[0] > 300


def test_samples_start_in_the_window_and_may_end_after_it() -> None:
    """A request of the warm-up is no sample; one that was drained is, with its latencies."""
    warm, drained, late = answer(9_999), answer(19_990), answer(20_000)
    summary = summary_of(warm, drained, late)
    assert (summary.requests.completed, summary.requests.drained) == (1, 1)
    assert summary["e2e"].count == 1
    assert summary.tokens.output == 5


def test_rates_count_arrivals_and_not_samples() -> None:
    """What the warm-up started counts where it arrived; what arrived after the window does not."""
    across = answer(9_800, ttft_ms=100, gap_ms=50)  # tokens at 9.9, 9.95, 10, 10.05, 10.1 s
    after = answer(19_900, ttft_ms=50, gap_ms=50)  # tokens at 19.95, 20, … s; ends at 20.15 s
    summary = summary_of(across, after)
    assert value(summary.output_tokens_per_s) == pytest.approx(0.4)
    assert value(summary.requests_per_s) == pytest.approx(0.1)


def test_outcomes_are_counted_and_give_no_latencies() -> None:
    """Errors by name, the most frequent first; of the censored, what they had reached."""
    failed = [
        evolve(answer(11_000), outcome=Failed(e)) for e in ("refused", "http_429", "http_429")
    ]
    censored = evolve(answer(19_000), outcome=Censored(), ended_at_ns=25 * NS_PER_S)
    summary = summary_of(*failed, censored, answer(12_000))
    requests = summary.requests
    assert (requests.completed, requests.failed, requests.censored, requests.total) == (1, 3, 1, 5)
    assert list(requests.by_error.items()) == [("http_429", 2), ("refused", 1)]
    assert requests.drained == 0
    assert (summary["e2e"].count, summary["e2e"].censored) == (1, 1)
    assert (summary["ttft"].count, summary["ttft"].censored) == (2, 0)
    assert (summary["itl"].count, summary["read_lag"].count) == (4, 25)


def test_nothing_is_none_and_not_zero() -> None:
    """No request at all: no rate, no mean, no share; only counts are 0."""
    summary = summary_of(slo=Slo(ttft_ms=1))
    ttft = summary["ttft"]
    assert [ttft.mean, ttft.min, ttft.max, ttft.p50, ttft.p99_9] == [None] * 5
    assert [summary.output_tokens_per_s, summary.requests_per_s, summary.goodput] == [None] * 3
    assert [summary.mean_in_flight, summary.coalesced_share, summary.early_end_share] == [None] * 3
    assert [summary.stamps, summary.tokens.counted_by, summary.tokens.input] == [None] * 3
    assert (summary.requests.total, summary.tokens.output, ttft.count) == (0, 0, 0)


def test_failures_alone_have_a_rate_of_zero() -> None:
    """Something was asked and nothing came: that is a throughput of 0, not an unknown one."""
    summary = summary_of(evolve(answer(11_000), token_at_ns=(), outcome=Failed("refused")))
    assert value(summary.requests_per_s) == 0


def test_tokens_are_summed_over_completed_samples() -> None:
    """Input and cached are known if they are of each; `stream` where counters differ."""
    both = summary_of(answer(11_000), answer(12_000)).tokens
    assert (both.output, both.input, both.cached, both.counted_by) == (10, 14, 4, "usage")
    streamed = evolve(answer(11_000), tokens=TokenCount(output=5))
    mixed = summary_of(streamed, answer(12_000)).tokens
    assert (mixed.output, mixed.input, mixed.cached, mixed.counted_by) == (10, None, None, "stream")
    counted = evolve(answer(11_000), tokens=TokenCount(output=5, counted_by="tokenizer"))
    assert summary_of(counted).tokens.counted_by == "tokenizer"


def test_coalesced_tokens_are_a_share_of_all() -> None:
    """Of five tokens, two have no instant of their own."""
    at_ns = [ms * NS_PER_MS for ms in (11_100, 11_100, 11_200, 11_200, 11_300)]
    assert summary_of(evolve(answer(11_000), token_at_ns=at_ns)).coalesced_share == 0.4


def test_early_ends_are_a_share_of_those_with_a_limit() -> None:
    """One of two ended before its limit; one had none."""
    early = evolve(answer(11_000), asked_tokens=6)
    free = evolve(answer(11_000), asked_tokens=None)
    assert summary_of(early, free, answer(12_000)).early_end_share == 0.5


def test_connections_are_those_of_the_requests_that_were_sent() -> None:
    """A request that never left had none."""
    fresh = evolve(answer(11_000), connection=Connection(fresh=True, reopened=1))
    unsent = evolve(fresh, sent_at_ns=None, outcome=Failed("refused"), ended_at_ns=12 * NS_PER_S)
    connections = summary_of(fresh, answer(12_000), unsent).connections
    assert (connections.fresh, connections.reused, connections.reopened) == (1, 1, 1)


def test_goodput_is_the_rate_of_good_requests() -> None:
    """TTFT of 100 … 499 ms, an SLO of 299 ms: 200 of 400 are good, over 10 s."""
    slow, quick = summary_of(*STAGE), summary_of(*STAGE, slo=Slo(ttft_ms=299))
    assert slow.goodput is None
    assert value(quick.goodput) == pytest.approx(20)
    assert quick.slo == Slo(ttft_ms=299)


def test_little_s_law_holds_of_a_full_window() -> None:
    """Mean in flight = rate × mean E2E, where nothing crosses the window's edges."""
    inside = [answer(10_000 + 20 * k) for k in range(100)]
    summary = summary_of(*inside)
    rate, e2e = summary.requests_per_s, summary["e2e"].mean
    assert summary.mean_in_flight == pytest.approx(value(rate) * value(e2e) / 1000)


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [(("kernel", "kernel"), "kernel"), (("user",), "user"), (("kernel", "user"), "mixed")],
)
def test_stamps_say_who_stamped(stamps: tuple[Stamps, ...], expected: str) -> None:
    """One user-stamped answer among others makes them mixed."""
    answers = [evolve(answer(11_000), stamps=stamp) for stamp in stamps]
    assert summary_of(*answers).stamps == expected


def due(at_ms: int, lag_ms: int | None) -> Timeline:
    """Return a request of an open loop, sent late by so much; None if never sent."""
    if lag_ms is None:
        return Timeline(
            index=0,
            due_at_ns=at_ms * NS_PER_MS,
            sent_at_ns=None,
            ended_at_ns=21 * NS_PER_S,
            outcome=Censored(),
        )
    return evolve(answer(at_ms + lag_ms), due_at_ns=at_ms * NS_PER_MS)


def test_an_open_loop_counts_from_due() -> None:
    """TTFT holds the lag, service TTFT does not."""
    summary = summary_of(due(11_000, 30), load=Poisson(1))
    assert value(summary["lag"].max) == 30
    assert value(summary["ttft"].max) == 130
    assert value(summary["service_ttft"].max) == 100
    assert value(summary["service_e2e"].max) == 180


def test_what_we_cancelled_is_counted_by_itself() -> None:
    """It neither failed nor is it unknown; its tokens came, and it is no sample of a latency."""
    cancelled = evolve(answer(11_000), outcome=Cancelled("tokens"))
    summary = summary_of(answer(12_000), cancelled)

    requests = summary.requests
    assert (requests.completed, requests.failed, requests.censored) == (1, 0, 0)
    assert (requests.cancelled, requests.total) == (1, 2)
    assert summary["e2e"].count == 1
    assert value(summary.output_tokens_per_s) == 1.0


def test_what_an_open_loop_asked_for_is_known() -> None:
    """Due in the window, and of these the sent ones; of a constant rate, the whole plan."""
    requests = [due(9_999, 0), due(10_000, 0), due(15_000, None), due(19_999, 50)]
    chance = summary_of(*requests, load=Poisson(5))
    assert (chance.asked, chance.offered) == (3, 2)
    planned = summary_of(*requests, load=ConstantRate(2))
    assert (planned.asked, planned.offered) == (20, 2)
    ramp = summary_of(*requests, load=Ramp(0, 40, duration_s=20, spread="constant"))
    assert (ramp.asked, ramp.offered) == (300, 2)
    by_chance = summary_of(*requests, load=Ramp(0, 40, duration_s=20))
    assert (by_chance.asked, by_chance.offered) == (3, 2)
    closed = summary_of(*STAGE)
    assert (closed.asked, closed.offered) == (None, None)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests are in memory at once, the summary is the same."""
    rng = np.random.default_rng(9)
    stage = [
        evolve(
            answer(9_000 + 30 * k, ttft_ms=int(rng.integers(50, 500))),
            outcome=Failed("refused") if k % 7 == 0 else Completed(),
            stamps="user" if k % 3 else "kernel",
        )
        for k in range(350)
    ]
    whole = summary_of(*stage, slo=Slo(ttft_ms=300))
    monkeypatch.setattr(module, "_CHUNK", 40)
    parts = summarize(reversed(stage), OBSERVATION, load=Concurrency(1), slo=Slo(ttft_ms=300))
    for field in fields(Summary):
        ours, theirs = getattr(parts, field.name), getattr(whole, field.name)
        if field.name in {"mean_in_flight", "rate_times_stay"}:
            assert ours == pytest.approx(theirs)
        else:
            assert ours == theirs, field.name


def test_a_metric_alone_has_the_distribution_that_it_has_in_a_summary() -> None:
    """Of the same requests, in the order of starting."""
    assert summarize_metric(TTFT, STAGE) == summary_of(*STAGE)["ttft"]
    assert summarize_metric(TTFT, []).count == 0


def test_a_planned_window_can_be_kept() -> None:
    """A start that is thrice as slow is left out unless it is asked for."""
    slow = [answer(10_000 + 25 * k, ttft_ms=900 if k < 80 else 300 + k % 7) for k in range(400)]
    cut = summary_of(*slow)
    assert cut.window.open_at_ns >= 12 * NS_PER_S
    assert cut.warmup_detected_ns == cut.window.open_at_ns - WINDOW.open_at_ns
    assert cut["ttft"].max_ns == 306 * NS_PER_MS
    whole = summarize(slow, OBSERVATION, load=Concurrency(1), detect_warmup=False)
    assert (whole.window, whole.warmup_detected_ns) == (WINDOW, 0)
    assert whole.drift is not None


def test_an_unknown_metric_lists_the_known_ones() -> None:
    """A typing error is answered with what there is."""
    summary = summarize(STAGE, OBSERVATION, load=Concurrency(1), metrics=[TTFT, E2E])
    with pytest.raises(KeyError, match="no metric 'tftt'; there are ttft, e2e"):
        summary["tftt"]


def test_gaps_of_a_single_request_have_percentiles_without_intervals() -> None:
    """The gaps are many; but they are of one request, and the next may be another."""
    itl = summary_of(answer(11_000, tokens=100))["itl"]
    assert itl.p50 is not None
    assert itl.p50.ci95 is None


@pytest.mark.parametrize(
    ("count", "read"),
    [
        (5, lambda m: m.p50),
        (35, lambda m: m.p90),
        (71, lambda m: m.p95),
        (367, lambda m: m.p99),
        (3687, lambda m: m.p99_9),
    ],
)
def test_a_percentile_needs_its_count(
    count: int, read: Callable[[object], Quantity | None]
) -> None:
    """One request fewer than needed: None; as many: a number; its interval needs some more."""
    ttft_ms = np.random.default_rng(count).permutation(4 * (count + 1)) + 1
    requests = [answer(10_000 + k // 2, ttft_ms=int(t), tokens=1) for k, t in enumerate(ttft_ms)]
    assert read(summary_of(*requests[:count])["ttft"]) is None
    assert read(summary_of(*requests[: count + 1])["ttft"]) is not None
    found = read(summary_of(*requests)["ttft"])
    assert found is not None
    assert found.ci95 is not None
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_ten_thousand_requests_touch_no_token_in_python() -> None:
    """The Python calls are counted by requests: a hundred times the tokens, hardly more calls."""
    import sys

    def calls(tokens: int) -> int:
        requests = [answer(10_000 + k, tokens=tokens, gap_ms=1) for k in range(100)]
        seen = 0

        def count(*_: object) -> None:
            nonlocal seen
            seen += 1

        sys.setprofile(count)
        try:
            summary_of(*requests)
        finally:
            sys.setprofile(None)
        return seen

    calls(2)  # fills the caches
    calls(200)
    assert calls(200) < 1.1 * calls(2)


def test_arrays_stay_outside() -> None:
    """A summary is small: counts and numbers, nothing that grows with the stage."""
    summary = summary_of(*STAGE)
    assert not any(isinstance(part, np.ndarray) for part in vars_of(summary))


def vars_of(part: object) -> list[object]:
    """Return the parts of a frozen value, and the parts of these."""
    if hasattr(part, "__attrs_attrs__"):
        below = [getattr(part, a.name) for a in part.__attrs_attrs__]
    else:
        below = list(part.values()) if isinstance(part, dict) else []
    return [part, *(deep for one in below for deep in vars_of(one))]
