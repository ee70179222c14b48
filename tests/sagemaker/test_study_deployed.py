"""The study file of `tests/studies/alike.py` on deployments of a fake SageMaker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmperf_core import Concurrency, Fixed, Settings, Study
from llmperf_core.errors import BudgetError
from llmperf_sagemaker.testing import Account, FakeSageMaker, Timing
from tests.sagemaker.deploying import IMAGE, ROLE
from tests.sagemaker.serving import simulated
from tests.studies.alike import assert_whole, studied

pytestmark = pytest.mark.usefixtures("deadline")

MODEL = "meta-llama/Llama-2-7b-hf"
URL = f"sagemaker-deploy:{MODEL}?instance=ml.g5.2xlarge&region=us-west-2&image={IMAGE}&role={ROLE}"
USD_PER_H = 1.515


@contextmanager
def quick(place: Path, **account: Any) -> Iterator[FakeSageMaker]:
    """Have AWS's clients talk to a fake that bills the time that passes here."""
    fake = FakeSageMaker(
        serve=simulated,
        speed=1.0,
        account=Account(prices={"ml.g5.2xlarge": USD_PER_H}, **account),
        timing=Timing(creating_s=1, deleting_s=1),
    )
    with fake, pytest.MonkeyPatch.context() as patch:
        for name, value in fake.environment().items():
            patch.setenv(name, value)
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        yield fake


def test_only_the_line_of_the_targets_differs(tmp_path: Path) -> None:
    """One endpoint for all cells, within the budget by the bill, and nothing left."""
    with quick(tmp_path) as fake:
        (tmp_path / "none").mkdir()
        with pytest.raises(BudgetError):
            studied(tmp_path / "none", URL)
        assert not [call for call in fake.calls if call.operation.startswith("Create")]

        done = studied(tmp_path, URL, budget_usd=20.0)

        assert_whole(done)
        created = [call.operation for call in fake.calls if call.operation.startswith("Create")]
        assert created == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
        assert not fake.holds()
        assert 0 < fake.usd <= done.spent_usd <= 20.0


def test_what_shares_a_quota_of_one_is_up_one_after_the_other(tmp_path: Path) -> None:
    """Two deployments, two at a time, one instance: AWS would refuse the second one meanwhile."""
    study = Study(
        targets=[URL, f"{URL}&max_total_tokens=2048"],
        loads=[Concurrency(1)],
        workload=Fixed("Write of llamas", max_new_tokens=4),
        settings=Settings(duration_s=1, warmup_s=0),
    )
    with quick(tmp_path, quotas={"ml.g5.2xlarge": 1}) as fake:
        done = study.run(tmp_path / "out", budget_usd=20.0, parallel=2)

        assert not done.missing
        assert [target.finding for target in done.targets] == [None, None]
        assert not fake.holds()
