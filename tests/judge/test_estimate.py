"""A stage's figures, and whether their spread is that of the figures over many stages."""

import numpy as np
import pytest
from attrs import evolve

from llmperf_core.judge import Slo, estimate, summarize
from llmperf_core.judge.estimate import Estimate, Estimates, Figure, estimate_from, taken_together
from llmperf_core.load import Concurrency
from llmperf_core.timeline import Failed, Observation, Timeline, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S, ns_from_s
from tests.judge.queue_model import Model

MANY = 60


def named(found: Estimates, metric: str, statistic: str = "rate") -> Estimate:
    """Return one figure's estimate."""
    return next(e for f, e in found.items() if (f.metric, f.statistic) == (metric, statistic))


def observation(window: Window) -> Observation:
    """Return what a harness saw that saw nothing but its window."""
    return Observation(
        window=window, ended_at_ns=window.close_at_ns, started_at="", client_cpu_ns=0
    )


def test_the_values_are_those_of_the_summary() -> None:
    """Every figure is the same number, in the same unit, as the summary shows."""
    timelines, window = Model().run(1, duration_s=120)
    slo = Slo(ttft_ms=60)
    found = estimate(timelines, window, slo=slo)
    summary = summarize(timelines, observation(window), load=Concurrency(8), slo=slo)
    from_summary = estimate_from(summary)
    assert {f.metric for f in found} == {
        *("ttft", "itl", "tpot", "e2e", "time_per_token"),
        *("output_tokens_per_s", "requests_per_s", "goodput"),
    }
    for figure, one in found.items():
        assert one.value == pytest.approx(from_summary[figure].value)
        assert from_summary[figure].spread is None


@pytest.mark.parametrize(
    ("metric", "statistic"),
    [("itl", "p50"), ("itl", "mean"), ("tpot", "p50"), ("e2e", "mean"), ("ttft", "p90")],
)
def test_the_spread_is_seldom_too_small(metric: str, statistic: str) -> None:
    """Over many stages the figure strays as far as the usual stage says, or less."""
    each = [
        named(estimate(*Model().run(seed, duration_s=60)), metric, statistic)
        for seed in range(MANY)
    ]
    strays = float(np.std(np.log([one.value for one in each])))
    said = float(np.mean([one.spread or 0 for one in each]))
    assert 0.8 < said / strays < 4


def test_requests_that_take_long_make_long_blocks() -> None:
    """Of 1 s requests in 60 s there are 20 blocks; of 4.9 s ones 6, and never fewer than 5."""
    window = Window(open_at_ns=0, close_at_ns=60 * NS_PER_S)
    for e2e_s, blocks in ((1.0, 20), (4.9, 6), (30.0, 5)):
        timelines = [_whole(k * 100 * NS_PER_MS, ns_from_s(e2e_s) + k) for k in range(600)]
        assert named(estimate(timelines, window), "e2e", "mean").freedom == blocks - 1


def _whole(sent_at_ns: int, e2e_ns: int) -> Timeline:
    model = Model(slots=1, tokens=1).run(0, duration_s=1)[0][0]
    at_ns = sent_at_ns + e2e_ns
    return evolve(
        model, sent_at_ns=sent_at_ns, token_at_ns=[at_ns], read_lag_ns=[0], ended_at_ns=at_ns
    )


def test_too_little_says_nothing_of_the_spread() -> None:
    """Requests in fewer than five blocks have a mean and no spread; none have no figure."""
    window = Window(open_at_ns=0, close_at_ns=60 * NS_PER_S)
    few = [_whole(k * NS_PER_MS, NS_PER_S) for k in range(3)]
    found = estimate(few, window)
    assert named(found, "e2e", "mean") == Estimate(1000)
    assert estimate([], window) == {}
    failed = [evolve(few[0], outcome=Failed("refused"))]
    assert {f.metric for f in estimate(failed, window)} <= {"output_tokens_per_s"}


def test_a_value_of_zero_has_no_ratio() -> None:
    """Tokens that come in bursts have a median gap of 0, of which nothing is a share."""
    timelines, window = Model().run(1)
    bursts = [evolve(t, token_at_ns=[t.ended_at_ns] * t.token_at_ns.size) for t in timelines]
    assert named(estimate(bursts, window), "itl", "p50") == Estimate(0)
    assert named(estimate(bursts, window), "itl", "mean") == Estimate(0)


def test_equal_values_have_no_spread() -> None:
    """A server without noise is known without an error."""
    window = Window(open_at_ns=0, close_at_ns=60 * NS_PER_S)
    timelines = [_whole(k * 100 * NS_PER_MS, NS_PER_S) for k in range(600)]
    assert named(estimate(timelines, window), "e2e", "p50").spread == 0


def test_repeats_are_as_far_apart_as_they_are() -> None:
    """What differs from repeat to repeat counts, and so does what each cannot know of itself."""
    apart = taken_together([Estimate(10, 0.001, 19), Estimate(12, 0.001, 19)])
    assert apart.value == pytest.approx(120**0.5)
    assert apart.spread == pytest.approx(np.log(12 / 10) / 2)
    assert apart.freedom == 1
    alike = taken_together([Estimate(10, 0.1, 19), Estimate(10, 0.1, 19)])
    assert alike.spread == pytest.approx(0.1 / 2**0.5)
    assert (round(alike.value, 9), alike.freedom) == (10, 38)
    assert taken_together([Estimate(0), Estimate(2)]) == Estimate(1)
    aggregated = taken_together([Estimate(10), Estimate(12)])
    assert aggregated.freedom == 1
    assert taken_together([Estimate(10, 0.1, 19)]) == Estimate(10, 0.1, 19)


def test_figures_are_known_by_what_they_are() -> None:
    """The same figure of two stages is one key."""
    parts = {"metric": "ttft", "statistic": "p50", "unit": "ms"}
    assert Figure(**parts, direction="lower") == Figure(**parts, direction="lower")
