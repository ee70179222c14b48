"""The truth by construction: requests whose every instant is known."""

from typing import Any

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.judge import (
    CONNECT,
    E2E,
    ITL,
    LAG,
    METRICS,
    READ_LAG,
    SERVICE_E2E,
    SERVICE_TTFT,
    TIME_PER_TOKEN,
    TPOT,
    TTFT,
    Metric,
    all_values,
    samples,
)
from llmperf_core.timeline import (
    Censored,
    Completed,
    Connection,
    Failed,
    Outcome,
    Timeline,
    TokenCount,
    Window,
)


def made(
    *,
    due: int | None = None,
    sent: int | None = 100,
    tokens: tuple[int, ...] = (350, 400, 400, 500),
    ended: int = 520,
    outcome: Outcome = Completed("length"),  # noqa: B008 -- frozen
) -> Timeline:
    """Return a request with these instants in nanoseconds."""
    return Timeline(
        index=0,
        due_at_ns=due,
        sent_at_ns=sent,
        token_at_ns=tokens,
        read_lag_ns=[7] * len(tokens),
        ended_at_ns=ended,
        outcome=outcome,
        tokens=TokenCount(output=len(tokens)),
        connection=Connection(fresh=True, connect_ns=30, tls_ns=12),
        stamps="kernel",
    )


def of(metric: Metric, timeline: Timeline) -> list[int]:
    """Return a metric's values as a list."""
    return [int(value) for value in metric.values(timeline)]


CLOSED = made()
OPEN = made(due=60)


@pytest.mark.parametrize(
    ("metric", "closed", "opened"),
    [
        (TTFT, [250], [290]),
        (ITL, [50, 0, 100], [50, 0, 100]),
        (TPOT, [50], [50]),
        (E2E, [420], [460]),
        (TIME_PER_TOKEN, [105], [105]),
        (LAG, [], [40]),
        (READ_LAG, [7, 7, 7, 7], [7, 7, 7, 7]),
        (SERVICE_TTFT, [], [250]),
        (SERVICE_E2E, [], [420]),
        (CONNECT, [42], [42]),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else None,
)
def test_definitions(metric: Metric, closed: list[int], opened: list[int]) -> None:
    """Latencies count from sent in a closed loop and from due in an open one."""
    assert of(metric, CLOSED) == closed
    assert of(metric, OPEN) == opened


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("outcome", [Failed("truncated"), Censored()], ids=["failed", "censored"])
def test_only_completed_requests_have_latencies(metric: Metric, outcome: Outcome) -> None:
    """A request that failed tells how the harness did; a censored one, what it had reached, too."""
    broken = made(due=60, outcome=outcome)
    expected = {"lag": [40], "read_lag": [7] * 4}
    if outcome == Censored():
        expected |= {"ttft": [290], "service_ttft": [250]}
    assert of(metric, broken) == expected.get(metric.name, [])


def test_a_censored_request_bounds_what_it_had_not_reached() -> None:
    """Cut off after its first token, its E2E was longer; before it, its TTFT was, too."""
    late, early = (made(due=60, tokens=t, outcome=Censored()) for t in ((350,), ()))
    bounds = {m.name: (m.cut_off(late).tolist(), m.cut_off(early).tolist()) for m in METRICS}
    assert {name: both for name, both in bounds.items() if any(both)} == {
        "ttft": ([], [460]),
        "e2e": ([460], [460]),
        "service_ttft": ([], [420]),
        "service_e2e": ([420], [420]),
    }
    assert not any(metric.cut_off(made(due=60)).size for metric in METRICS)
    closed = made(tokens=(), outcome=Censored())
    assert not SERVICE_TTFT.cut_off(closed).size
    assert not SERVICE_E2E.cut_off(closed).size


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_request_never_sent_has_no_values(metric: Metric) -> None:
    """What has no instants has no value, rather than 0."""
    never = made(due=60, sent=None, tokens=(), outcome=Failed("refused"))
    assert of(metric, never) == []


def test_an_answer_that_was_not_streamed_has_no_gaps() -> None:
    """Without token events there is an E2E and no TTFT, ITL or TPOT."""
    whole = made(tokens=())
    assert [of(metric, whole) for metric in (TTFT, ITL, TPOT, E2E)] == [[], [], [], [420]]


def test_a_single_token_has_no_tpot() -> None:
    """TPOT is over requests of two tokens and more."""
    single = made(tokens=(350,))
    assert of(TTFT, single) == [250]
    assert of(TPOT, single) == []


def test_tpot_divides_by_the_servers_count_where_events_carry_several_tokens() -> None:
    """Five tokens in three events make four steps, not two."""
    burst = Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=0,
        token_at_ns=[100, 200, 300],
        ended_at_ns=300,
        outcome=Completed(),
        tokens=TokenCount(output=5, counted_by="usage"),
    )
    assert of(TPOT, burst) == [50]
    assert of(READ_LAG, burst) == []


@pytest.mark.parametrize(
    ("server_ns", "expected"),
    [
        ({"time_per_token": 33, "inference": 400}, [33]),
        ({"inference": 400, "queue": 5}, [100]),
        ({"queue": 5}, [130]),
    ],
)
def test_time_per_token_is_the_servers_own_where_it_gave_one(
    server_ns: dict[str, int], expected: list[int]
) -> None:
    """The server's figure goes before its inference time, and that before what the client saw."""
    timeline = Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=0,
        ended_at_ns=520,
        outcome=Completed(),
        tokens=TokenCount(output=4),
        server_ns=server_ns,
    )
    assert of(TIME_PER_TOKEN, timeline) == expected


def test_no_tokens_no_time_per_token() -> None:
    """An empty answer has no time per token."""
    assert of(TIME_PER_TOKEN, made(tokens=())) == []


def test_a_reused_connection_cost_nothing_and_is_not_counted_as_free() -> None:
    """Only fresh connections have a connect time, so zeros of reused ones cannot flatter it."""
    reused = Timeline(
        index=0,
        due_at_ns=None,
        sent_at_ns=0,
        ended_at_ns=1,
        outcome=Completed(),
        connection=Connection(fresh=False),
    )
    assert of(CONNECT, reused) == []


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200))
def test_gaps_sum_to_last_minus_first(instants: list[int]) -> None:
    """However the tokens came, no time between them is lost."""
    at_ns = sorted(instants)
    timeline = made(sent=0, tokens=tuple(at_ns), ended=at_ns[-1])
    assert sum(of(ITL, timeline)) == at_ns[-1] - at_ns[0]


def test_a_users_own_metric_counts_in_its_own_unit() -> None:
    """A metric is a value: anybody can make one, and what is not a time is shown as it is."""
    words = Metric(
        name="output_tokens",
        of=lambda timeline: np.array([timeline.tokens.output]),
        unit="tokens",
        direction="higher",
        description="tokens of the answer",
    )
    assert of(words, CLOSED) == [4]
    assert of(words, made(outcome=Censored())) == []
    assert (words.shown(4), TTFT.shown(2_500_000)) == (4, 2.5)


@pytest.mark.parametrize(
    "wrong", [{"name": "a b"}, {"direction": "up"}, {"over": "bytes"}], ids=str
)
def test_a_metric_of_unknown_words_is_refused(wrong: dict[str, Any]) -> None:
    """A misspelt direction would turn a comparison round."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        evolve(TTFT, **wrong)


def test_samples_are_the_requests_that_started_in_the_window() -> None:
    """The window holds its first instant and not its last; the end of a request does not matter."""
    window = Window(open_at_ns=100, close_at_ns=200)
    inside = [
        made(sent=100, ended=900),
        made(sent=199),
        made(due=150, sent=250),
        made(sent=None, tokens=(), ended=150, outcome=Failed("refused")),
    ]
    outside = [made(sent=99), made(sent=200), made(due=99, sent=150)]
    assert samples([*outside, *inside], window) == inside


def test_values_of_several_requests_are_put_together_in_order() -> None:
    """Plots get one array; none from no requests."""
    assert all_values(ITL, [CLOSED, OPEN]).tolist() == [50, 0, 100] * 2
    assert all_values(ITL, []).size == 0
