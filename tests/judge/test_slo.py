"""What makes a request good."""

import pytest

from llmperf_core.judge import Slo
from llmperf_core.timeline import Completed, Failed, Outcome, Timeline
from llmperf_core.units import NS_PER_MS


def made(tokens_ms: list[int], outcome: Outcome = Completed()) -> Timeline:  # noqa: B008 -- frozen
    """Return a request sent at 0 whose tokens arrived at these milliseconds, ended at 100 ms."""
    return Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=0,
        token_at_ns=[ms * NS_PER_MS for ms in tokens_ms],
        ended_at_ns=100 * NS_PER_MS,
        outcome=outcome,
    )


# TTFT 20 ms; gaps 10 and 50 ms; TPOT 30 ms; E2E 100 ms.
REQUEST = made([20, 30, 80])


@pytest.mark.parametrize(
    ("at_limit", "below"),
    [
        (Slo(ttft_ms=20), Slo(ttft_ms=19.9)),
        (Slo(itl_ms=50), Slo(itl_ms=49.9)),
        (Slo(tpot_ms=30), Slo(tpot_ms=29.9)),
        (Slo(e2e_ms=100), Slo(e2e_ms=99.9)),
        (
            Slo(ttft_ms=20, itl_ms=50, tpot_ms=30, e2e_ms=100),
            Slo(ttft_ms=20, itl_ms=50, tpot_ms=30, e2e_ms=99),
        ),
    ],
)
def test_limits_are_inclusive_and_all_count(at_limit: Slo, below: Slo) -> None:
    """Reaching a limit keeps it; one limit missed is missed, and ITL means the largest gap."""
    assert at_limit.met_by(REQUEST)
    assert not below.met_by(REQUEST)


def test_no_limits_are_met_by_any_answer() -> None:
    """Without limits, good means completed."""
    assert Slo().met_by(REQUEST)
    assert not Slo().met_by(made([20], Failed("truncated")))


def test_a_failure_is_never_good() -> None:
    """However quickly it failed."""
    assert not Slo(e2e_ms=1000).met_by(made([20], Failed("http_429")))


def test_a_single_token_breaks_no_limit_on_gaps() -> None:
    """It has no gap; its TTFT counts as usual."""
    assert Slo(itl_ms=1, tpot_ms=1, ttft_ms=20).met_by(made([20]))
    assert not Slo(ttft_ms=19).met_by(made([20]))


@pytest.mark.parametrize("slo", [Slo(ttft_ms=1000), Slo(itl_ms=1000), Slo(tpot_ms=1000)])
def test_what_was_not_seen_was_not_kept(slo: Slo) -> None:
    """An answer that was not streamed cannot be shown to meet a limit on its tokens."""
    assert not slo.met_by(made([]))
    assert Slo(e2e_ms=100).met_by(made([]))


@pytest.mark.parametrize("name", ["ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"])
@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_be_positive(name: str, limit: float) -> None:
    """Nothing can meet a limit of 0, so it is a mistake."""
    with pytest.raises(ValueError, match=name):
        Slo(**{name: limit})
