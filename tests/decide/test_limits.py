"""Limits on percentiles, and when they are proved to hold or to be broken."""

import numpy as np
import numpy.typing as npt
import pytest

from llmperf_core.decide import Exceeding, PercentileLimit
from llmperf_core.errors import UsageError
from llmperf_core.timeline import Completed, Failed, Outcome, Timeline
from llmperf_core.units import NS_PER_MS

DONE = Completed("length")


def answered(ttft_ms: int, *, outcome: Outcome = DONE) -> Timeline:
    """Return a request of two tokens, 10 ms apart."""
    first_ns = ttft_ms * NS_PER_MS
    return Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=0,
        token_at_ns=[first_ns, first_ns + 10 * NS_PER_MS],
        ended_at_ns=first_ns + 10 * NS_PER_MS,
        outcome=outcome,
    )


def test_a_limit_is_read_and_written_alike() -> None:
    """What is printed of a limit can be given again."""
    limit = PercentileLimit.parse("ttft.p99.9=500")

    assert limit == PercentileLimit("ttft", 99.9, 500)
    assert PercentileLimit.parse(str(limit)) == limit
    assert limit.allowed_share == pytest.approx(0.001)


@pytest.mark.parametrize(
    "text", ["ttft=500", "ttft.99=500", "lag.p99=500", "ttft.p99=", "ttft.p100=5", "ttft.p50=0", ""]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    """The message repeats what was written."""
    with pytest.raises(UsageError, match=f"limit '{text}'"):
        PercentileLimit.parse(text)


def test_a_value_at_the_limit_keeps_it() -> None:
    """Only what is beyond the limit exceeds it."""
    limit = PercentileLimit("ttft", 50, 100)

    assert limit.exceeding([answered(100), answered(101)]).share == 0.5


def test_a_failed_request_exceeds_every_limit() -> None:
    """A server that refuses does not keep its limits thereby."""
    failed = answered(1, outcome=Failed("http_429"))

    for metric in ("ttft", "itl", "tpot", "e2e"):
        assert PercentileLimit(metric, 50, 10_000).exceeding([failed]).share == 1


def test_each_gap_counts_in_a_limit_on_gaps() -> None:
    """A limit on ITL is over tokens."""
    requests = [answered(1), answered(1), answered(1, outcome=Failed("http_500"))]

    assert PercentileLimit("itl", 50, 9).exceeding(requests).share == 1
    assert PercentileLimit("itl", 50, 10).exceeding(requests).share == pytest.approx(1 / 3)


def test_nothing_proves_nothing() -> None:
    """Without a value a limit neither holds nor is broken."""
    nothing = PercentileLimit("ttft", 50, 1).exceeding([])

    assert not nothing.is_below(0.5, chance=0.05)
    assert not nothing.is_above(0.5, chance=0.05)


def test_few_good_requests_are_no_proof() -> None:
    """That none of n exceeds a p99 shows it only once 0.99 to the power of n is small."""
    few = Exceeding(share=0.0, worth=366)
    enough = Exceeding(share=0.0, worth=368)

    assert not few.is_below(0.01, chance=0.025)
    assert enough.is_below(0.01, chance=0.025)


@pytest.mark.parametrize("value", [0, 2])
def test_where_all_agree_a_request_counts_once(value: int) -> None:
    """A hundred equal gaps of one request are not a hundred proofs."""
    parts = [np.full(100, value) for _ in range(7)]

    assert Exceeding.of(parts, limit=1, percentile=90) == Exceeding(share=value / 2, worth=7)


def exceeding(values: npt.NDArray[np.int64]) -> Exceeding:
    """Return what requests of one value each say of a limit of 0 at p90."""
    return Exceeding.of(list(values.reshape(-1, 1)), limit=0, percentile=90)


def test_a_common_cause_makes_requests_worth_less() -> None:
    """Requests that exceed in one long stretch prove less than as many that do so by chance."""
    stretch = np.repeat([0, 1], [800, 200])

    scattered = exceeding(np.random.default_rng(0).permutation(stretch))
    in_a_row = exceeding(stretch)

    assert scattered.share == in_a_row.share == 0.2
    assert in_a_row.worth < 20 < scattered.worth
    assert scattered.is_below(0.3, chance=0.01)
    assert not in_a_row.is_below(0.3, chance=0.01)


def test_dependence_shows_where_no_value_exceeds() -> None:
    """Ever slower requests depend on each other, also while none has reached the limit."""
    ever_slower = np.arange(-1000, 0)

    assert exceeding(ever_slower).share == 0
    assert exceeding(ever_slower).worth < 20


def test_a_wrong_decision_is_as_rare_as_promised() -> None:
    """At the allowed share itself, neither side is proved more often than the chance says."""
    rng = np.random.default_rng(1)
    seen = [exceeding(rng.binomial(1, 0.1, size=400)) for _ in range(1000)]

    assert sum(one.is_below(0.1, chance=0.025) for one in seen) <= 35
    assert sum(one.is_above(0.1, chance=0.025) for one in seen) <= 35
