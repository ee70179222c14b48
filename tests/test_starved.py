"""A measuring process that is starved of its processor is found out, by starving it for real.

It is pinned to one processor together with processes that never stop to run. The server has another
one, where there are two: it is the client that starves.
"""

import os
from collections.abc import Iterator
from functools import partial

import pytest
from attrs import evolve

from llmperf_core import Concurrency, Fixed, Settings, bench, calibrate, testing
from llmperf_core.testing import ReferenceServer, Script
from llmperf_core.units import ns_from_s
from tests.calibrated import GOOD
from tests.starving import PROCESSORS, spinning

pytestmark = [pytest.mark.usefixtures("deadline"), pytest.mark.starving]

TRIES = 3
GAP_S = 0.005


@pytest.fixture(autouse=True)
def starved() -> Iterator[None]:
    """Pin this thread, and so what it starts, to one processor with busy neighbours."""
    os.sched_setaffinity(0, PROCESSORS[-1:])
    with spinning(PROCESSORS[-1]):
        yield
    os.sched_setaffinity(0, PROCESSORS)


def test_a_starved_host_is_calibrated_as_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and what shows it: tokens were read late, or even together."""
    elsewhere = partial(ReferenceServer, core=PROCESSORS[0])
    monkeypatch.setattr(testing, "ReferenceServer", elsewhere)
    for _ in range(TRIES):
        found = calibrate(Concurrency(20), gap_s=GAP_S, duration_s=1, settings=Settings(quiet=True))
        if {reason.code for reason in found.reasons} & {"read_lag", "coalesced"}:
            break

    assert found.status == "degraded"
    assert {reason.code for reason in found.reasons} & {"read_lag", "coalesced"}
    assert found.held_events_per_s is None


def test_a_stage_that_is_starved_after_a_good_calibration_says_so() -> None:
    """What the stage shows is much worse than what its host was found to be capable of."""
    calibration = evolve(GOOD, gap_ns=ns_from_s(GAP_S), streams=20, load_value=20)
    settings = Settings(warmup_s=0.5, drain_s=0, quiet=True, calibration=calibration)
    script = Script(first_token_s=GAP_S, gap_s=GAP_S, scatter=True)
    with ReferenceServer(script, core=PROCESSORS[0]) as server:
        for _ in range(TRIES):
            stage = bench(
                server.url,
                Concurrency(20),
                workload=Fixed("Write of llamas", max_new_tokens=50),
                duration_s=1,
                settings=settings,
            )
            reasons = {reason.code: reason.detail for reason in stage.verdict.reasons}
            if "degraded_instrument" in reasons:
                break

    assert calibration.status == "good"
    assert "something kept the measuring process waiting" in reasons["degraded_instrument"]
