"""Throughput is what arrived in the window, each token where it arrived."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.judge.rates import (
    Arrivals,
    Binned,
    binned,
    endings,
    mean_in_flight,
    rate,
    rate_times_stay,
    token_arrivals,
)
from llmperf_core.timeline import (
    Censored,
    Completed,
    Instants,
    Outcome,
    Timeline,
    TokenCount,
    Window,
    int64,
)
from llmperf_core.units import NS_PER_S

WINDOW = Window(open_at_ns=10 * NS_PER_S, close_at_ns=20 * NS_PER_S)


def made(
    tokens_s: list[float],
    *,
    output: int | None = None,
    sent_s: float = 0,
    ended_s: float = 30,
    outcome: Outcome = Completed(),  # noqa: B008 -- frozen
) -> Timeline:
    """Return a request with these instants in seconds."""
    return Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=round(sent_s * NS_PER_S),
        token_at_ns=[round(at_s * NS_PER_S) for at_s in tokens_s],
        ended_at_ns=round(ended_s * NS_PER_S),
        outcome=outcome,
        tokens=TokenCount(output=len(tokens_s) if output is None else output),
    )


def token_rate(*timelines: Timeline) -> float:
    """Return the tokens per second over the window."""
    found = rate(binned(token_arrivals(timelines), WINDOW), WINDOW, unit="tok/s")
    assert found is not None
    return found.value


def in_window(at_ns: Instants) -> Binned:
    """Return arrivals that count for one each, in the parts of the window."""
    return binned(Arrivals(at_ns=at_ns, weights=np.ones(at_ns.size)), WINDOW)


def test_tokens_count_where_they_arrive() -> None:
    """Of a request that spans the window, the tokens inside count, whenever it started or ended."""
    assert token_rate(made([9.9, 10, 15, 19.9, 20])) == pytest.approx(0.3)


def test_a_request_that_did_not_end_brought_tokens_too() -> None:
    """The server generated them in the window, whatever became of the rest of the answer."""
    assert token_rate(made([11, 12], outcome=Censored())) == pytest.approx(0.2)


def test_an_event_weighs_what_it_carries() -> None:
    """Four events of twelve tokens: two of them in the window bring six."""
    assert token_rate(made([9, 11, 12, 21], output=12)) == pytest.approx(0.6)


def test_events_that_nobody_counted_weigh_one_token() -> None:
    """An answer that broke off has no usage; its tokens are still tokens."""
    assert token_rate(made([11, 12], output=0)) == pytest.approx(0.2)


def test_an_answer_that_was_not_streamed_arrives_when_it_ends() -> None:
    """All its tokens count at its end, and none if that lies outside."""
    assert token_rate(made([], output=50, ended_s=19)) == pytest.approx(5)
    assert token_rate(made([], output=50, ended_s=20)) == 0


def test_endings_count_one_each() -> None:
    """The window's first instant is in, its last is out."""
    ends = endings([made([], ended_s=at_s) for at_s in (9.9, 10, 19.9, 20)])
    found = rate(binned(ends, WINDOW), WINDOW, unit="req/s")
    assert found is not None
    assert repr(found) == "0.200 req/s"


def test_few_arrivals_have_no_interval() -> None:
    """Fewer than there are batches say nothing of the spread between batches."""
    at_ns = int64(np.linspace(WINDOW.open_at_ns, WINDOW.close_at_ns - 1, 10))
    full = rate(in_window(at_ns), WINDOW, unit="")
    short = rate(in_window(at_ns[1:]), WINDOW, unit="")
    assert full is not None
    assert full.ci95 == (1, 1)
    assert short is not None
    assert short.ci95 is None


def test_a_rate_is_never_said_to_be_below_zero() -> None:
    """Where all came at once, the interval ends at 0."""
    at_ns = int64([WINDOW.open_at_ns] * 30)
    found = rate(in_window(at_ns), WINDOW, unit="")
    assert found is not None
    assert found.ci95 is not None
    assert found.ci95[0] == 0


def test_the_interval_of_a_poisson_stream_covers_its_rate() -> None:
    """Of 400 streams of 20 per second over 10 s, about 95 % hold the truth."""
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(400):
        at_ns = int64(rng.uniform(WINDOW.open_at_ns, WINDOW.close_at_ns, rng.poisson(200)))
        found = rate(in_window(at_ns), WINDOW, unit="")
        assert found is not None
        assert found.ci95 is not None
        held += found.ci95[0] <= 20 <= found.ci95[1]
    assert 0.91 <= held / 400 <= 0.99


def test_a_window_without_length_has_no_rate() -> None:
    """Nothing can be divided by it."""
    empty = Window(open_at_ns=5, close_at_ns=5)
    assert rate(binned(endings([made([])]), empty), empty, unit="") is None
    assert mean_in_flight([made([])], empty) is None
    assert rate_times_stay([made([])], empty) is None


def test_in_flight_is_the_overlap_with_the_window() -> None:
    """Half of the window, all of it, none of it: 1.5 in flight on average."""
    requests = [
        made([], sent_s=5, ended_s=15),
        made([], sent_s=5, ended_s=25),
        made([], sent_s=20, ended_s=25),
    ]
    assert mean_in_flight(requests, WINDOW) == pytest.approx(1.5)
    never = Timeline(
        index=0, due_at_ns=0, sent_at_ns=None, ended_at_ns=NS_PER_S * 15, outcome=Censored()
    )
    assert mean_in_flight([never], WINDOW) == 0


def test_little_s_law_counts_the_requests_that_ended_in_the_window() -> None:
    """One of 10 s that ended inside, one that ended after: 10 s ÷ 10 s, whatever the edges cut."""
    requests = [made([], sent_s=5, ended_s=15), made([], sent_s=15, ended_s=25)]
    assert rate_times_stay(requests, WINDOW) == pytest.approx(1)
    assert mean_in_flight(requests, WINDOW) == pytest.approx(1)


@given(st.lists(st.floats(10, 20), max_size=40), st.integers(0, 40))
def test_chunks_add_up(instants_s: list[float], cut: int) -> None:
    """However the arrivals are cut into chunks, the same arrived in each part of the window."""
    at_ns = int64([round(at_s * NS_PER_S) for at_s in instants_s])
    whole, parts = in_window(at_ns), in_window(at_ns[:cut]) + in_window(at_ns[cut:])
    assert whole.arrivals == parts.arrivals
    assert whole.weights.tolist() == parts.weights.tolist()


@given(st.lists(st.floats(10, 20, exclude_max=True), min_size=1, max_size=50), st.integers(1, 200))
def test_no_token_is_lost_or_made(tokens_s: list[float], output: int) -> None:
    """The weights of a request add up to its tokens."""
    tokens_s = [min(at_s, 19.999) for at_s in tokens_s]
    assert token_rate(made(sorted(tokens_s), output=output)) == pytest.approx(output / 10)
