"""What the readings of a server and its machine make of a stage."""

from llmperf_core.judge.crosscheck import CrossCheck
from llmperf_core.judge.telemetry import Watch, Watched
from llmperf_core.judge.verdict import Check, Evidence, Reason
from llmperf_core.units import percent

_SLOWED = {
    "slowed_by_heat": "heat",
    "slowed_by_hardware": "its hardware's protection",
    "slowed_by_power": "its power limit",
}


def as_watched(found: Watch) -> tuple[Check, ...]:
    """Return the checks that the readings of a stage make possible."""

    def throttled(_: Evidence) -> Reason | None:
        """The clocks of a GPU were held down."""
        said = [
            (cause, f"{name} was slowed by {word} in {percent(share)} of the readings")
            for name, watched in found.meters.items()
            for cause, word in _SLOWED.items()
            if (share := _share(watched, cause))
        ]
        if not said:
            return None
        # A power limit holds a busy GPU down in every run alike; heat does so in some.
        is_usual = all(cause == "slowed_by_power" for cause, _ in said)
        detail = "; ".join(words for _, words in said)
        return Reason("throttled", detail, "valid" if is_usual else "suspect")

    def other_clients(_: Evidence) -> Reason | None:
        """The server answered more requests than ours."""
        check = found.crosscheck
        if check is None or not check.others:
            return None
        return Reason(
            "other_clients",
            f"the server answered {check.requests:,.0f} requests while {check.our_requests:,} of "
            "ours ended: others use it, and what was measured is not its answer to our load alone",
        )

    def token_counter_mismatch(_: Evidence) -> Reason | None:
        """The server generated more or fewer tokens than arrived."""
        check = found.crosscheck
        if check is None or not check.mismatch:
            return None
        return Reason("token_counter_mismatch", _mismatch(check))

    return throttled, other_clients, token_counter_mismatch


def _share(watched: Watched, cause: str) -> float:
    level = watched.levels.get(cause)
    return 0.0 if level is None else level.mean


def _mismatch(check: CrossCheck) -> str:
    unknown = " or other clients use it" if check.requests is None else ""
    return (
        f"the server counted {check.tokens:,.0f} output tokens while {check.our_tokens:,.0f} "
        f"arrived, which is more than the {check.tokens_slack:,.0f} that the edges explain: one "
        f"of the two counts something else{unknown}"
    )
