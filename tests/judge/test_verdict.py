"""Each reason at its threshold, from stages that were made to have it."""

from typing import Any

import numpy as np
import pytest
from attrs import evolve

from llmperf_core.judge import Reason, Summary, Verdict, judge, summarize
from llmperf_core.judge.verdict import CHECKS, Status
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile
from llmperf_core.timeline import (
    Cancelled,
    Censored,
    Completed,
    Failed,
    Observation,
    Timeline,
    TokenCount,
    Window,
)
from llmperf_core.units import NS_PER_MS, NS_PER_S

OBSERVATION = Observation(
    window=Window(open_at_ns=0, close_at_ns=10 * NS_PER_S),
    ended_at_ns=10 * NS_PER_S,
    started_at="2024-01-01T00:00:00Z",
    client_cpu_ns=1 * NS_PER_S,
    reads=1000,
)
GAP_NS = 20 * NS_PER_MS


def stage(
    *,
    count: int = 100,
    read_lag_ns: int = 1_000,
    coalesced: int = 0,
    open_loop_lag_ns: int | None = None,
    kernel: bool = True,
) -> list[Timeline]:
    """Return completed requests of 10 tokens, 20 ms apart, some together with the one before."""
    token_at_ns = [50 * NS_PER_MS + k * GAP_NS for k in range(10)]
    for k in range(1, coalesced + 1):
        token_at_ns[k] = token_at_ns[0]
    made = []
    for k in range(count):
        start = k * 9 * NS_PER_S // count
        made.append(
            Timeline(
                index=k,
                due_at_ns=None if open_loop_lag_ns is None else start,
                sent_at_ns=start + (open_loop_lag_ns or 0),
                token_at_ns=[start + at_ns for at_ns in token_at_ns],
                read_lag_ns=[read_lag_ns] * 10 if kernel else (),
                ended_at_ns=start + token_at_ns[-1],
                outcome=Completed("length"),
                tokens=TokenCount(output=10),
                stamps="kernel" if kernel else "user",
            )
        )
    return made


def summary_of(timelines: list[Timeline], load: LoadProfile = Concurrency(1)) -> Summary:  # noqa: B008
    """Return the summary of a stage."""
    return summarize(timelines, OBSERVATION, load=load)


def counted(
    *, input_tokens: int = 400, cached: int | None = None, ns_a_token: float = 20_000
) -> list[Timeline]:
    """Return requests whose inputs are of 200 to 2,000 tokens, read at that pace and with noise."""
    made, rng = [], np.random.default_rng(1)
    for t in stage(count=150):
        tokens = int(rng.integers(input_tokens // 2, input_tokens * 5))
        ttft_ns = round(50 * NS_PER_MS + ns_a_token * tokens + rng.exponential(2 * NS_PER_MS))
        first_at_ns = (t.sent_at_ns or 0) + ttft_ns
        made.append(
            evolve(
                t,
                token_at_ns=[first_at_ns + k * GAP_NS for k in range(10)],
                ended_at_ns=first_at_ns + 9 * GAP_NS,
                tokens=TokenCount(output=10, input=tokens, cached=cached),
            )
        )
    return made


def codes(timelines: list[Timeline], **seen: object) -> dict[str, Status]:
    """Return the reasons of a stage by their codes, with something else observed."""
    observation = evolve(OBSERVATION, **seen)  # type: ignore[arg-type] # by name
    return {r.code: r.status for r in judge(summary_of(timelines), observation).reasons}


def test_prompts_that_repeat_are_suspect() -> None:
    """From more than one in a hundred on; one that a server's cache knows costs it nothing."""
    assert codes(stage(), repeated_prompts=1) == {}
    assert codes(stage(), repeated_prompts=2) == {"cached_prompts": "suspect"}


def test_input_from_the_cache_is_suspect() -> None:
    """A quarter of it, and more than a chat template has; where it is meant, it is only said."""
    assert "cached_prompts" not in codes(counted(cached=200))
    assert codes(counted(cached=600)) == {"cached_prompts": "suspect"}
    assert codes(counted(cached=600), reuse_meant=True) == {"cached_prompts": "valid"}
    assert "cached_prompts" not in codes(counted(input_tokens=60, cached=90))


def test_ttft_that_does_not_grow_with_the_input_is_suspect() -> None:
    """Above 250,000 tokens a second nobody reads a prompt: it comes from somewhere else."""
    assert codes(counted(ns_a_token=0)) == {"flat_ttft": "suspect"}
    assert codes(counted(ns_a_token=0), reuse_meant=True) == {}
    assert codes(counted(ns_a_token=0, cached=0)) == {}, "the server knows better"


@pytest.mark.parametrize("ns_a_token", [5_000, 20_000, 500_000])
def test_ttft_that_grows_is_as_it_should_be(ns_a_token: float) -> None:
    """At 200,000 tokens a second and less."""
    assert codes(counted(ns_a_token=ns_a_token)) == {}


def test_flat_ttft_is_not_held_against_what_cannot_be_told() -> None:
    """Few requests, inputs of about one length, or no count of them."""
    assert "flat_ttft" not in codes(counted(ns_a_token=0)[:59])
    assert "flat_ttft" not in codes(counted(input_tokens=100, ns_a_token=0))
    assert codes(stage()) == {}


def test_users_who_all_went_away_leave_nothing_measured() -> None:
    """Latencies are of completed requests, and there is none."""
    gone = [evolve(t, outcome=Cancelled("time")) for t in stage(count=3)]
    [reason] = judge(summary_of(gone), OBSERVATION).reasons

    assert (reason.code, reason.status) == ("no_completed_request", "invalid")
    assert reason.detail == "none of 3 requests completed; the workload cancelled 3"


def test_what_the_server_ignored_is_suspect() -> None:
    """The numbers are of another question than was asked."""
    said = judge(summary_of(stage()), evolve(OBSERVATION, caveats=("a", "b"))).reasons

    assert [(r.code, r.detail, r.status) for r in said] == [("caveats", "a; b", "suspect")]


def verdict_of(timelines: list[Timeline], load: LoadProfile = Concurrency(1)) -> Verdict:  # noqa: B008
    """Return the verdict on a stage with an observation that is beyond reproach."""
    return judge(summary_of(timelines, load), OBSERVATION)


def said(verdict: Verdict) -> tuple[Status, list[str]]:
    """Return the status and the codes of the reasons."""
    return verdict.status, [reason.code for reason in verdict.reasons]


def test_a_clean_stage_is_valid_without_a_word() -> None:
    """Nothing to say."""
    assert verdict_of(stage()) == Verdict("valid")


def test_nothing_completed() -> None:
    """Invalid, and the message says what happened instead."""
    failed = [evolve(t, outcome=Failed("refused")) for t in stage(count=3)]
    verdict = verdict_of(failed)
    assert said(verdict) == ("invalid", ["no_completed_request", "errors"])
    assert verdict.reasons[0].detail == "none of 3 requests completed: refused 3×"
    assert said(verdict_of([])) == ("invalid", ["no_completed_request"])
    censored = [evolve(t, outcome=Censored()) for t in stage(count=2)]
    assert verdict_of(censored).reasons[0].detail == "none of 2 requests completed"


@pytest.mark.parametrize(
    ("count", "expected"), [(71, ("suspect", ["too_few_samples"])), (72, ("valid", []))]
)
def test_a_p95_must_be_possible(count: int, expected: tuple[Status, list[str]]) -> None:
    """72 completed requests are the least that can enclose a 95th percentile."""
    assert said(verdict_of(stage(count=count))) == expected


@pytest.mark.parametrize(
    ("failed", "status"),
    [(1, "valid"), (2, "valid"), (3, "suspect"), (20, "suspect"), (21, "invalid")],
)
def test_errors_by_their_share(failed: int, status: Status) -> None:
    """Of 200: more than 1 % is suspect, more than 10 % invalid; fewer are named all the same."""
    made = stage(count=200)
    for k in range(failed):
        made[k] = evolve(made[k], outcome=Failed("truncated"))
    verdict = verdict_of(made)
    assert said(verdict) == (status, ["errors"])
    assert verdict.reasons[0].detail.endswith(f"truncated {failed}×")


@pytest.mark.parametrize(
    ("read_lag_ns", "expected"),
    [
        (GAP_NS // 4, ("valid", [])),
        (GAP_NS // 4 + 1000, ("suspect", ["read_lag"])),
        (GAP_NS, ("suspect", ["read_lag"])),
        (GAP_NS + 1000, ("invalid", ["read_lag"])),
    ],
)
def test_read_lag_is_held_against_the_gap(
    read_lag_ns: int, expected: tuple[Status, list[str]]
) -> None:
    """A quarter of the gap between tokens is borne; a whole one and nothing can be believed."""
    assert said(verdict_of(stage(read_lag_ns=read_lag_ns))) == expected


def test_a_few_reads_are_judged_by_their_worst() -> None:
    """Without a 99th percentile the largest read lag stands for it."""
    verdict = verdict_of(stage(count=10, read_lag_ns=GAP_NS * 2))
    assert said(verdict) == ("invalid", ["read_lag", "too_few_samples"])
    assert "read lag max 40.0 ms is 200 %" in verdict.reasons[0].detail


def test_bursts_of_the_server_are_not_held_against_the_stage() -> None:
    """Tokens came together while every read was prompt: it is only worth knowing."""
    verdict = verdict_of(stage(coalesced=3))
    assert said(verdict) == ("valid", ["bursts"])
    assert "the server sends several at a time" in verdict.reasons[0].detail


def test_tokens_mostly_in_bursts_are_held_against_the_mean_gap() -> None:
    """The median gap is 0 then; TPOT says how fast tokens come, and the reads were prompt."""
    assert said(verdict_of(stage(coalesced=6))) == ("valid", ["bursts"])
    late = verdict_of(stage(coalesced=6, read_lag_ns=GAP_NS // 2))
    assert said(late) == ("invalid", ["coalesced", "read_lag"])


@pytest.mark.parametrize(
    ("requests", "status"), [(2, None), (3, "suspect"), (50, "suspect"), (51, "invalid")]
)
def test_coalescing_by_a_late_reader(requests: int, status: Status | None) -> None:
    """4 of 10 tokens together in some of 100 requests: above 1 % suspect, above 20 % invalid."""
    late_ns = GAP_NS // 2
    made = stage(coalesced=4, read_lag_ns=late_ns)[:requests]
    made += stage(read_lag_ns=late_ns)[requests:]
    found = [reason for reason in verdict_of(made).reasons if reason.code == "coalesced"]
    assert [reason.status for reason in found] == ([status] if status else [])
    assert all("either the client read too late or the server" in r.detail for r in found)


def test_without_read_lag_coalescing_is_suspect_at_most() -> None:
    """With the program's own stamps nobody can tell whose doing it was."""
    assert said(verdict_of(stage(coalesced=6, kernel=False))) == ("suspect", ["coalesced"])


def offered_load(timelines: list[Timeline], load: LoadProfile) -> list[Status]:
    """Return what the load that was offered makes of a stage, if anything."""
    reasons = verdict_of(timelines, load).reasons
    return [reason.status for reason in reasons if reason.code == "offered_load"]


@pytest.mark.parametrize(
    ("unsent", "expected"),
    [(1, []), (2, []), (3, ["suspect"]), (10, ["suspect"]), (11, ["invalid"])],
)
def test_an_open_loop_must_offer_what_was_asked(unsent: int, expected: list[Status]) -> None:
    """Of 100: below 98 sent is suspect, below 90 invalid."""
    made = stage(open_loop_lag_ns=0)
    for k in range(unsent):
        made[k] = evolve(made[k], sent_at_ns=None, token_at_ns=(), outcome=Censored())
    assert offered_load(made, ConstantRate(10)) == expected


def test_one_request_at_the_edge_is_not_held_against_a_short_stage() -> None:
    """One of twenty is 5 %, and still only the edge of the window."""
    made = stage(count=20, open_loop_lag_ns=0)
    made[-1] = evolve(made[-1], sent_at_ns=None, outcome=Censored())
    assert offered_load(made, ConstantRate(2)) == []


@pytest.mark.parametrize(
    ("cut_off", "status"), [(2, "valid"), (3, "suspect"), (100, "suspect"), (101, "invalid")]
)
def test_censoring_by_its_share(cut_off: int, status: Status) -> None:
    """Of 200: above 1 % the p99 is an estimate, above half the median is."""
    made = stage(count=200)
    for k in range(200 - cut_off, 200):
        made[k] = evolve(made[k], outcome=Censored(), ended_at_ns=9 * NS_PER_S)
    found = [r for r in verdict_of(made).reasons if r.code == "censored"]
    assert [reason.status for reason in found] == [status]
    assert f"{cut_off / 2:g}" in found[0].detail


@pytest.mark.parametrize(("early", "expected"), [(0, []), (1, ["early_end"]), (10, ["early_end"])])
def test_a_few_short_answers_are_only_named(early: int, expected: list[str]) -> None:
    """Up to a tenth that end before their limit is worth knowing."""
    made = [evolve(t, asked_tokens=11 if k < early else 10) for k, t in enumerate(stage())]
    assert said(verdict_of(made)) == ("valid", expected)


def test_many_short_answers_are_held_against_a_stage() -> None:
    """11 of 100 ended early: E2E and requests/s are those of another workload."""
    made = [evolve(t, asked_tokens=11 if k < 11 else 10) for k, t in enumerate(stage())]
    verdict = verdict_of(made)
    assert said(verdict) == ("suspect", ["early_end"])
    assert verdict.reasons[0].detail.startswith("11.0 % of the answers ended before")


def slowing(total_share: float) -> list[Timeline]:
    """Return 200 requests whose E2E rises evenly, by this share between the halves of the stage."""
    return [
        evolve(t, ended_at_ns=t.ended_at_ns + round((k - 100) / 100 * total_share * 230e6))
        for k, t in enumerate(stage(count=200))
    ]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.04, []), (-0.04, []), (0.06, ["rises"]), (-0.06, ["falls"])]
)
def test_a_trend_is_held_against_a_stage(share: float, expected: list[str]) -> None:
    """Clear in all of them; above 5 % between the halves it changes decisions."""
    found = [r for r in verdict_of(slowing(share)).reasons if r.code == "non_stationary"]
    assert [reason.detail.split()[1] for reason in found] == expected
    assert all(reason.status == "suspect" for reason in found)


def test_noise_is_no_trend() -> None:
    """Halves that differ by 20 % and have no order in them are not a trend."""
    made = [
        evolve(t, ended_at_ns=t.ended_at_ns + (80_000_000 if k // 20 in (0, 5, 6, 8) else 0))
        for k, t in enumerate(stage(count=200))
    ]
    drift = summary_of(made).drift
    assert drift is not None
    assert abs(drift.change) > 0.05
    assert said(verdict_of(made)) == ("valid", [])


@pytest.mark.parametrize(
    ("hung_s", "expected"), [(0, []), (3, []), (4, ["littles_law"]), (10, ["littles_law"])]
)
def test_littles_law_holds_of_a_complete_record(hung_s: int, expected: list[str]) -> None:
    """A request that hung until after the window was in flight in it and did not end in it.

    The others were 23 s in flight. Up to 10 % and a mean stay at the edges may be missing: 3.2 s.
    """
    hung = evolve(stage()[0], sent_at_ns=(10 - hung_s) * NS_PER_S, ended_at_ns=11 * NS_PER_S)
    assert said(verdict_of([*stage(), hung]))[1] == expected


def test_littles_law_is_not_asked_where_nothing_ended() -> None:
    """Of failures alone the level is all there is."""
    hung = [evolve(t, outcome=Censored(), ended_at_ns=20 * NS_PER_S) for t in stage()]
    assert "littles_law" not in said(verdict_of(hung))[1]
    assert "littles_law" not in said(verdict_of([]))[1]


@pytest.mark.parametrize(
    ("lag_ms", "expected"), [(10, ("valid", [])), (25, ("valid", [])), (26, ("suspect", ["lag"]))]
)
def test_lag_is_held_against_e2e(lag_ms: int, expected: tuple[Status, list[str]]) -> None:
    """E2E is 230 ms + lag: a tenth of it is borne."""
    made = stage(open_loop_lag_ns=lag_ms * NS_PER_MS)
    made = [
        evolve(
            t,
            ended_at_ns=t.ended_at_ns + lag_ms * NS_PER_MS,
            token_at_ns=t.token_at_ns + lag_ms * NS_PER_MS,
        )
        for t in made
    ]
    assert said(verdict_of(made, ConstantRate(10))) == expected


def test_ten_milliseconds_of_lag_are_borne_however_quick_the_server() -> None:
    """A timer of a general-purpose system is no better; 11 ms are too many for a quick one."""

    def quick(lag_ms: int) -> Verdict:
        made = [
            evolve(t, token_at_ns=(), ended_at_ns=t.sent_at_ns or 0)
            for t in stage(open_loop_lag_ns=lag_ms * NS_PER_MS)
        ]
        return verdict_of(made, ConstantRate(10))

    assert said(quick(10)) == ("valid", [])
    assert said(quick(11)) == ("suspect", ["lag"])


def test_lag_is_judged_where_nothing_completed_too() -> None:
    """It is of the harness, so no answer is needed."""
    made = [evolve(t, outcome=Failed("refused")) for t in stage(open_loop_lag_ns=20 * NS_PER_MS)]
    codes = said(verdict_of(made, ConstantRate(10)))[1]
    assert "lag" in codes


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"client_cpu_ns": 8 * NS_PER_S}, ("valid", [])),
        ({"client_cpu_ns": 9 * NS_PER_S}, ("suspect", ["client_cpu"])),
        ({"client_cpu_ns": 9 * NS_PER_S, "ended_at_ns": 0}, ("valid", [])),
        ({"clock_steps": 1}, ("suspect", ["clock_step"])),
        ({"clock_steps": 1, "reads": 0}, ("suspect", ["clock_step"])),
        ({"clock_steps": 1, "user_stamped_reads": 1000}, ("valid", ["user_stamps"])),
        ({"interrupted": True}, ("suspect", ["interrupted"])),
        ({"stopped_early": "ttft p50 ± 5 %"}, ("valid", ["stopped_early"])),
        ({"user_stamped_reads": 10}, ("valid", ["user_stamps"])),
    ],
    ids=str,
)
def test_what_the_harness_saw_of_itself(
    changed: dict[str, Any], expected: tuple[Status, list[str]]
) -> None:
    """A busy client, a clock's jump and an interruption are suspect; user stamps are a note."""
    observation = evolve(OBSERVATION, **changed)
    assert said(judge(summary_of(stage()), observation)) == expected


def test_the_gravest_reason_comes_first_and_decides() -> None:
    """Notes do not lift a stage, and order does not hide what matters."""

    def note(_: object) -> Reason:
        return Reason("note", "", "valid")

    def grave(_: object) -> Reason:
        return Reason("grave", "", "invalid")

    verdict = judge(summary_of(stage()), OBSERVATION, checks=[note, *CHECKS, grave])
    assert said(verdict) == ("invalid", ["grave", "note"])


def test_checks_bear_the_absence_of_every_metric() -> None:
    """A summary of a user's own metrics only can still be judged."""
    bare = summarize(stage(coalesced=3), OBSERVATION, load=Concurrency(1), metrics=[])
    assert said(judge(bare, OBSERVATION)) == ("suspect", ["coalesced"])
