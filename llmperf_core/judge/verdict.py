"""Whether a stage's numbers can be trusted, and what speaks against it.

A check is a pure function of the evidence; `CHECKS` is the list, and a caller may pass another.
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from attrs import frozen

from llmperf_core.judge.intervals import least_count
from llmperf_core.judge.summary import MetricSummary, Summary
from llmperf_core.timeline import Observation
from llmperf_core.units import (
    NS_PER_MS,
    NS_PER_S,
    format_duration,
    format_number,
    percent,
    s_from_ns,
)

Status: TypeAlias = Literal["valid", "suspect", "invalid"]
"""`valid`: nothing speaks against the numbers. `suspect`: look twice. `invalid`: do not use."""

ERROR_SHARE_SUSPECT = 0.01
"""Of the requests that ended. Failures are not in the distributions, so they flatter them."""
ERROR_SHARE_INVALID = 0.10
READ_LAG_SUSPECT = 0.25
"""Read lag (p99) ÷ gap between tokens (median). At a whole gap the kernel merges tokens and only
the last one's stamp survives, so a quarter leaves room."""
READ_LAG_INVALID = 1.0
COALESCED_SUSPECT = 0.01
"""Of the tokens. Each is a gap of 0 and makes the one before it too long, so 1 % reaches p99."""
COALESCED_INVALID = 0.20
OFFERED_SUSPECT = 0.98
"""Requests sent ÷ requests asked for."""
OFFERED_INVALID = 0.90
LAG_OF_E2E_SUSPECT = 0.10
"""Lag (p99) ÷ E2E (median)."""
LAG_LEAST_NS = 10 * NS_PER_MS
"""No lag up to this is held against a stage: timers of general-purpose systems are no better."""
CENSORED_SUSPECT = 0.01
"""Of the requests: what a deadline cuts off is the tail, so at 1 % a p99 is estimated, not seen."""
CENSORED_INVALID = 0.50
"""Then not even the median was seen."""
EARLY_END_SUSPECT = 0.10
"""Of the requests with a limit on tokens. Answers that end before it are shorter than asked for,
so beyond a tenth even the lower percentiles of E2E are those of another workload."""
DRIFT_CHANCE = 0.01
"""One steady stage in a hundred has a trend as clear as that."""
DRIFT_SUSPECT = 0.05
"""Between the halves of the window, of the mean E2E. A long stage shows smaller ones clearly, and
they change no decision."""
LITTLE_SUSPECT = 0.10
"""Difference ÷ mean in flight, beyond what the window's edges can explain. A window cuts through
each slot's request at both edges, which is a mean stay at most; the rest is a stage that was not
steady, or requests that are missing from its record."""
CPU_SHARE_SUSPECT = 0.80
"""Of one core. The measuring process has one thread; above this, requests wait for it."""

REPEATED_SUSPECT = 0.01
"""Prompts that had been asked before ÷ requests."""
CACHED_SUSPECT = 0.25
"""Input tokens that the server says it took from its cache ÷ input tokens."""
CACHED_LEAST_TOKENS = 100
"""A request. Chat templates begin all prompts alike, and up to this is laid to them."""
FLAT_TTFT_TOKENS_PER_S = 250_000
"""Input tokens a second, of one request. No accelerator of today reads the prompt of a model of 1 B
parameters and more that fast, so a TTFT that grows by less was not made of reading it."""

_ORDER: tuple[Status, ...] = ("valid", "suspect", "invalid")


@frozen
class Reason:
    """Something to know about a stage before using its numbers."""

    code: str
    """Short and stable, for programs."""
    detail: str
    """What was seen and what it means, for people."""
    status: Status = "suspect"
    """What it makes of the stage by itself; `valid` for what is only worth knowing."""


@frozen
class Verdict:
    """What the numbers of a stage are worth, and why."""

    status: Status
    reasons: tuple[Reason, ...] = ()
    """The gravest first. A valid stage may have some too, which are only worth knowing."""


@frozen
class Evidence:
    """What a check looks at."""

    summary: Summary
    observation: Observation

    def metric(self, name: str) -> MetricSummary | None:
        """Return the distribution of a metric; None if it was not measured or has no values."""
        found = self.summary.metrics.get(name)
        return found if found is not None and found.count else None


Check: TypeAlias = Callable[[Evidence], Reason | None]
"""Returns what it has to say; None if nothing."""


def judge(
    summary: Summary, observation: Observation, *, checks: Iterable[Check] | None = None
) -> Verdict:
    """Return what the numbers of a stage are worth: as much as the gravest reason leaves.

    Args:
        summary: what its requests come to.
        observation: what the harness saw of itself.
        checks: what to look at; None for `CHECKS`.
    """
    evidence = Evidence(summary, observation)
    said = (check(evidence) for check in (CHECKS if checks is None else checks))
    reasons = sorted(
        (reason for reason in said if reason is not None),
        key=lambda reason: -_ORDER.index(reason.status),
    )
    return Verdict(reasons[0].status if reasons else "valid", tuple(reasons))


def _graded(value: float, *, suspect: float, invalid: float) -> Status:
    """Return what a value makes of a stage when more of it is worse."""
    if value > invalid:
        return "invalid"
    return "suspect" if value > suspect else "valid"


def high(metric: MetricSummary) -> tuple[str, float]:
    """Return the 99th percentile, or the maximum where there are too few values for one."""
    p99_ns = metric.percentiles.get(99)
    if p99_ns is not None:
        return "p99", p99_ns
    return "max", float(metric.max_ns or 0)


def usual_gap_ns(evidence: Evidence) -> float | None:
    """Return the usual time between tokens, None if it is not known.

    It is the median ITL; or the median TPOT where tokens come in bursts and most gaps are 0.
    """
    for name in ("itl", "tpot"):
        metric = evidence.metric(name)
        median_ns = metric.percentiles.get(50) if metric is not None else None
        if median_ns:
            return median_ns
    return None


def _read_lag_of_gap(evidence: Evidence) -> float | None:
    """Return the read lag in gaps between tokens; None if either is not known."""
    read_lag, gap_ns = evidence.metric("read_lag"), usual_gap_ns(evidence)
    return None if read_lag is None or gap_ns is None else high(read_lag)[1] / gap_ns


def no_completed_request(evidence: Evidence) -> Reason | None:
    """Nothing was measured."""
    requests = evidence.summary.requests
    if requests.completed:
        return None
    detail = f"none of {requests.total} requests completed"
    if requests.by_error:
        named = ", ".join(f"{error} {count}×" for error, count in requests.by_error.items())
        detail += f": {named}"
    if requests.cancelled:
        detail += f"; the workload cancelled {requests.cancelled}"
    return Reason("no_completed_request", detail, "invalid")


def too_few_samples(evidence: Evidence) -> Reason | None:
    """Too few requests for the 95th percentile to have an interval."""
    completed, least = evidence.summary.requests.completed, least_count(95)
    if not 0 < completed < least:
        return None
    detail = f"{completed} completed requests; a p95 needs {least}: measure for longer"
    return Reason("too_few_samples", detail)


def errors(evidence: Evidence) -> Reason | None:
    """Requests failed, and they are in no distribution."""
    requests = evidence.summary.requests
    if not requests.failed:
        return None
    share = requests.failed / (requests.failed + requests.completed)
    named = ", ".join(f"{error} {count}×" for error, count in requests.by_error.items())
    status = _graded(share, suspect=ERROR_SHARE_SUSPECT, invalid=ERROR_SHARE_INVALID)
    return Reason("errors", f"{percent(share)} of the requests failed: {named}", status)


def read_lag(evidence: Evidence) -> Reason | None:
    """The program read too late for the gaps between tokens."""
    share, metric = _read_lag_of_gap(evidence), evidence.metric("read_lag")
    if share is None or metric is None or share <= READ_LAG_SUSPECT:
        return None
    which, lag_ns = high(metric)
    detail = (
        f"read lag {which} {format_duration(lag_ns)} is {percent(share)} of the usual gap between "
        f"tokens ({format_duration(lag_ns / share)}): the client is too slow for this stream"
    )
    status = _graded(share, suspect=READ_LAG_SUSPECT, invalid=READ_LAG_INVALID)
    return Reason("read_lag", detail, status)


def coalesced(evidence: Evidence) -> Reason | None:
    """Tokens came together: the reader's doing, or the server's; the read lag tells which."""
    share = evidence.summary.coalesced_share
    if share is None or share <= COALESCED_SUSPECT:
        return None
    lag = _read_lag_of_gap(evidence)
    seen = f"{percent(share)} of the tokens came in one read with an earlier one"
    if lag is not None and lag <= READ_LAG_SUSPECT:
        detail = f"{seen}; reads were prompt, so the server sends several at a time"
        return Reason("bursts", detail, "valid")
    detail = f"{seen}: either the client read too late or the server sends several at a time"
    if lag is None:
        # Without a kernel's stamps neither can be ruled out, so neither is held for certain.
        return Reason("coalesced", f"{detail} (no read lag is known)")
    status = _graded(share, suspect=COALESCED_SUSPECT, invalid=COALESCED_INVALID)
    return Reason("coalesced", detail, status)


def censored(evidence: Evidence) -> Reason | None:
    """Requests were cut off, so the tail is an estimate."""
    requests = evidence.summary.requests
    if not requests.censored:
        return None
    share = requests.censored_share
    detail = (
        f"{percent(share)} of the requests were still in flight when the waiting ended; TTFT and "
        "E2E are Kaplan–Meier estimates that count them, TPOT and ITL leave them out"
    )
    status = _graded(share, suspect=CENSORED_SUSPECT, invalid=CENSORED_INVALID)
    return Reason("censored", detail, status)


def early_end(evidence: Evidence) -> Reason | None:
    """Answers were shorter than asked for."""
    share = evidence.summary.early_end_share
    if not share:
        return None
    detail = (
        f"{percent(share)} of the answers ended before their limit on tokens: E2E and requests/s "
        "are of shorter answers than were asked for"
    )
    return Reason("early_end", detail, "suspect" if share > EARLY_END_SUSPECT else "valid")


def non_stationary(evidence: Evidence) -> Reason | None:
    """The window has a trend: its percentiles are of no steady state."""
    drift = evidence.summary.drift
    if drift is None or drift.chance >= DRIFT_CHANCE or abs(drift.change) <= DRIFT_SUSPECT:
        return None
    direction = "rises" if drift.change > 0 else "falls"
    detail = (
        f"E2E {direction} by {percent(abs(drift.change))} from the first half of the window to "
        "the second: it has not settled, so measure for longer or with less load"
    )
    return Reason("non_stationary", detail)


def littles_law(evidence: Evidence) -> Reason | None:
    """Requests in flight and their rate × time do not fit together."""
    summary = evidence.summary
    level, expected = summary.mean_in_flight, summary.rate_times_stay
    if not level or expected is None:
        return None
    # A request's mean time is rate × time ÷ rate.
    ended = summary.requests_per_s.value if summary.requests_per_s is not None else 0.0
    stay_s = expected / ended if ended else math.inf
    at_edges = stay_s / s_from_ns(summary.window.duration_ns)
    off = abs(level - expected) / level
    if off <= LITTLE_SUSPECT + at_edges:
        return None
    detail = (
        f"{format_number(level)} requests were in flight on average, but their rate × their time "
        f"is {format_number(expected)}: the stage was not steady, or its record is not complete"
    )
    return Reason("littles_law", detail)


def offered_load(evidence: Evidence) -> Reason | None:
    """An open loop sent fewer requests than it was asked for."""
    asked, offered = evidence.summary.asked, evidence.summary.offered
    # One request may always fall to the other side of the window's edge.
    if asked is None or offered is None or asked - offered <= 1:
        return None
    missing = 1 - offered / asked
    if missing <= 1 - OFFERED_SUSPECT:
        return None
    detail = f"{offered} of {asked} requests were sent: the load that was asked for was not reached"
    status = _graded(missing, suspect=1 - OFFERED_SUSPECT, invalid=1 - OFFERED_INVALID)
    return Reason("offered_load", detail, status)


def lag(evidence: Evidence) -> Reason | None:
    """An open loop sent requests late."""
    metric, e2e = evidence.metric("lag"), evidence.metric("e2e")
    if metric is None:
        return None
    which, lag_ns = high(metric)
    median_ns = e2e.percentiles.get(50) if e2e is not None else None
    if lag_ns <= max(LAG_LEAST_NS, LAG_OF_E2E_SUSPECT * (median_ns or 0)):
        return None
    detail = (
        f"requests were sent up to {format_duration(lag_ns)} ({which}) after they were due; "
        "every latency counts from due, so part of it is the client's"
    )
    return Reason("lag", detail)


def client_cpu(evidence: Evidence) -> Reason | None:
    """The measuring process was busy for most of the time."""
    observation = evidence.observation
    if observation.ended_at_ns <= 0:
        return None
    share = observation.client_cpu_ns / observation.ended_at_ns
    if share <= CPU_SHARE_SUSPECT:
        return None
    detail = f"the measuring process used {percent(share)} of a core: requests may wait for it"
    return Reason("client_cpu", detail)


def clock_step(evidence: Evidence) -> Reason | None:
    """The wall clock jumped, and kernel stamps are wall-clock."""
    observation = evidence.observation
    only_user = 0 < observation.reads <= observation.user_stamped_reads
    if not observation.clock_steps or only_user:
        return None
    detail = f"the wall clock jumped {observation.clock_steps}× while kernel stamps relied on it"
    return Reason("clock_step", detail)


def cached_prompts(evidence: Evidence) -> Reason | None:
    """Prompts were answered from a cache, or could be."""
    summary, observation = evidence.summary, evidence.observation
    said: list[str] = []
    repeated = observation.repeated_prompts
    if repeated > REPEATED_SUSPECT * summary.requests.total:
        said.append(f"{repeated} prompts had been asked before: a server with a cache knows them")
    cached, asked = summary.tokens.cached, summary.tokens.input
    least = CACHED_LEAST_TOKENS * summary.requests.completed
    if cached and asked and cached > max(CACHED_SUSPECT * asked, least):
        said.append(f"the server took {percent(cached / asked)} of the input from its cache")
    if not said:
        return None
    meant = "; the workload means it to" if observation.reuse_meant else ""
    status: Status = "valid" if meant else "suspect"
    return Reason("cached_prompts", "; ".join(said) + meant, status)


def flat_ttft(evidence: Evidence) -> Reason | None:
    """TTFT hardly grows with the input, though no cache was meant to help."""
    growth = evidence.summary.ttft_growth
    if growth is None or evidence.observation.reuse_meant or evidence.summary.tokens.cached == 0:
        return None
    if growth.most_ns * FLAT_TTFT_TOKENS_PER_S > growth.more_tokens * NS_PER_S:
        return None
    detail = (
        f"TTFT grows by at most {format_duration(max(growth.most_ns, 0))} over "
        f"{growth.more_tokens} more input tokens: prompts seem to come from a cache"
    )
    return Reason("flat_ttft", detail)


def caveats(evidence: Evidence) -> Reason | None:
    """The server ignored or changed a part of what it was asked."""
    said = evidence.observation.caveats
    return Reason("caveats", "; ".join(said)) if said else None


def interrupted(evidence: Evidence) -> Reason | None:
    """Somebody stopped the stage."""
    if not evidence.observation.interrupted:
        return None
    return Reason("interrupted", "the stage was stopped before its time was over")


def stopped_early(evidence: Evidence) -> Reason | None:
    """Worth knowing: the stage took less time than it might have, as it was asked to."""
    reached = evidence.observation.stopped_early
    if not reached:
        return None
    took = format_duration(evidence.observation.window.duration_ns)
    return Reason("stopped_early", f"{reached} was reached, so the window is {took} long", "valid")


def user_stamps(evidence: Evidence) -> Reason | None:
    """Worth knowing: some arrivals were stamped by the program only."""
    observation = evidence.observation
    if not observation.user_stamped_reads:
        return None
    share = observation.user_stamped_reads / max(observation.reads, 1)
    detail = (
        f"{percent(share)} of the reads were stamped by the program and not by the kernel: "
        "their instants are as late as the program was, and their read lag is not known"
    )
    return Reason("user_stamps", detail, "valid")


CHECKS: tuple[Check, ...] = (
    no_completed_request,
    too_few_samples,
    errors,
    censored,
    early_end,
    non_stationary,
    littles_law,
    read_lag,
    coalesced,
    offered_load,
    lag,
    client_cpu,
    clock_step,
    cached_prompts,
    flat_ttft,
    caveats,
    interrupted,
    stopped_early,
    user_stamps,
)
"""What `judge` looks at. Reasons of equal gravity keep this order."""
