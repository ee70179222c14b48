"""The gate: what it lets through, what it stops, and how often it errs."""

from collections.abc import Callable
from itertools import count

import pytest
from attrs import evolve

from llmperf_core.errors import UnlikeRunsError
from llmperf_core.gate import FIGURES, Gate
from llmperf_core.results import StageResult
from tests.judge.queue_model import Model
from tests.test_compare import SERVER, SPEC, stage

SLOW = evolve(SERVER, step_ms=1.2 * SERVER.step_ms)
BASELINE = [stage(SERVER, seed) for seed in (1001, 1002, 1003)]


def measuring(server: Model, first_seed: int = 1) -> Callable[[], StageResult]:
    """Return what measures a server anew each time."""
    seeds = count(first_seed)
    return lambda: stage(server, next(seeds))


def test_the_same_server_passes_at_once() -> None:
    """One measurement is enough, and it is said which change would have been seen."""
    gated = Gate().judge(BASELINE, measuring(SERVER))
    assert (gated.worse, len(gated.candidate)) == ([], 1)
    assert gated.smallest_seen is not None
    assert 0.05 < gated.smallest_seen < 0.2
    assert "nothing is proved to be worse by more than 5.00 % (1 against 3" in str(gated)
    assert "would have been seen" in str(gated)


def test_a_slower_server_is_stopped() -> None:
    """It is measured as often as the baseline, and what is worse is named, with its figures."""
    gated = Gate().judge(BASELINE, measuring(SLOW))
    named = {f"{c.figure.metric}.{c.figure.statistic}" for c in gated.worse}
    assert {"itl.p50", "tpot.p50", "output_tokens_per_s.rate"} <= named
    assert len(gated.candidate) == 3
    assert "worse than the baseline by more than 5.00 % (3 against 3 measurements" in str(gated)
    assert "itl.p50: " in str(gated)


def test_one_bad_measurement_is_measured_again() -> None:
    """What was bad luck does not fail a suite."""
    again = measuring(SERVER)
    first = iter([stage(SLOW, 7)])
    gated = Gate().judge(BASELINE, lambda: next(first, None) or again())
    assert gated.worse == []
    assert len(gated.candidate) == 2


def test_what_is_within_the_margin_passes() -> None:
    """However certain a change is."""
    slightly = evolve(SERVER, step_ms=1.04 * SERVER.step_ms)
    assert Gate(margin=0.06).judge(BASELINE, measuring(slightly)).worse == []


def test_other_figures_can_be_gated() -> None:
    """Only those that are named count."""
    gated = Gate(figures=("ttft.p50",)).judge(BASELINE, measuring(SLOW))
    assert {change.figure.metric for change in gated.changes} == {"ttft"}
    assert set(FIGURES) > {"ttft.p50"}


def test_an_unknown_figure_is_refused() -> None:
    """Before anything is measured."""
    with pytest.raises(ValueError, match=r"'ttft\.p42'"):
        Gate(figures=("ttft.p42",))


def test_another_workload_is_refused() -> None:
    """But another model is what may be gated."""
    other = evolve(SPEC, workload={"kind": "fixed"}, endpoint={"model": "m2", "stream": True})
    with pytest.raises(UnlikeRunsError, match="workload"):
        Gate().judge(BASELINE, lambda: stage(SERVER, spec=other))
    renamed = evolve(SPEC, endpoint={"model": "m2", "stream": True})
    assert Gate().judge(BASELINE, lambda: stage(SERVER, spec=renamed)).worse == []


def test_it_rarely_cries_wolf() -> None:
    """An unchanged server passes in all of 50 seeded gates."""
    gates = [Gate().judge(BASELINE, measuring(SERVER, 10 * n)) for n in range(50)]
    assert [gated for gated in gates if gated.worse] == []
