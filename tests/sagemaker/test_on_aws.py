"""A small model on a real account. It costs money, and says how much at most before it begins.

Run it with `LLMPERF_SAGEMAKER_ROLE`, a region, and `LLMPERF_AWS_MAX_USD`: see docs/sagemaker.md.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from llmperf_core import Concurrency, Fixed, Settings, sweep
from llmperf_core.cli import main
from llmperf_core.target import Reap
from llmperf_sagemaker import Deployment
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.budget import WorstCase
from llmperf_sagemaker.defaults import ROLE_ENV, region_of
from llmperf_sagemaker.deploying import backend
from llmperf_sagemaker.plane import KINDS, Plane
from llmperf_sagemaker.wanted import PREFIX

pytestmark = pytest.mark.aws

_MAX_USD = "LLMPERF_AWS_MAX_USD"
_TYPE = os.environ.get("LLMPERF_AWS_INSTANCE", "ml.g5.xlarge")
_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_MEASURING_S = 600.0


@frozen
class Live:
    """What the tests may use."""

    deployment: Deployment
    region: str

    def held(self) -> list[str]:
        """Return the names of all of llmperf's in the region, by the account itself."""
        plane = Plane.of(Account(region=self.region))
        return [name for kind in KINDS for name, _ in plane.all(kind, PREFIX)]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """Say what it may cost, and yield a deployment that may cost that; afterwards all is gone."""
    missing = [name for name in (ROLE_ENV, _MAX_USD) if not os.environ.get(name)]
    if missing:
        pytest.skip(f"set {' and '.join(missing)}: docs/sagemaker.md says how")
    region = region_of(Account())
    target = Deployment(_MODEL, instance_type=_TYPE, region=region, startup_s=900)
    target = target.allowed(max_usd=float(os.environ[_MAX_USD]), measuring_s=_MEASURING_S)
    if target.price is None:
        pytest.skip(f"nobody knows the price of {_TYPE} in {region}")
    worst = WorstCase(price=target.price, bring_up=target.bring_up, measuring_s=_MEASURING_S)
    sys.__stderr__.write(f"\neach of two live tests: {worst.arithmetic}\n")  # type: ignore[union-attr]
    yield Live(target, region)
    for leftover in backend.leftovers(Reap(regions=(region,))):
        leftover.remove()


def test_a_model_is_deployed_measured_and_deleted(live: Live, tmp_path: Path) -> None:
    """On a real endpoint, by the code that the fake tests."""
    before = live.held()

    run = sweep(
        live.deployment,
        [Concurrency(1), Concurrency(5)],
        workload=Fixed("Write of llamas", max_new_tokens=50),
        settings=Settings(duration_s=20, warmup_s=5, folder=tmp_path / "run"),
    )

    assert all(stage.summary.requests.completed > 0 for stage in run.stages)
    assert live.held() == before


def test_what_a_kill_leaves_is_reaped(live: Live) -> None:
    """While the endpoint is being created, which refuses its deletion."""
    before = live.held()
    words = [sys.executable, "-m", "llmperf_core", "bench", "--quiet"]
    allowed = f"&max_usd={live.deployment.max_usd}&measuring_s={_MEASURING_S}"
    with subprocess.Popen([*words, live.deployment.name + allowed]) as process:
        while len(live.held()) < len(before) + 3 and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)

    assert len(live.held()) == len(before) + 3
    assert main(["reap"]) == 0
    assert live.held() == before
