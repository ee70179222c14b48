"""The study file of `tests/studies/alike.py` on deployments of a fake SageMaker."""

from pathlib import Path

import pytest

from llmperf_core.errors import BudgetError
from llmperf_sagemaker.testing import Account, FakeSageMaker, Timing
from tests.sagemaker.deploying import IMAGE, ROLE
from tests.sagemaker.serving import simulated
from tests.studies.alike import assert_whole, studied

pytestmark = pytest.mark.usefixtures("deadline")

MODEL = "meta-llama/Llama-2-7b-hf"
URL = f"sagemaker-deploy:{MODEL}?instance=ml.g5.2xlarge&region=us-west-2&image={IMAGE}&role={ROLE}"
USD_PER_H = 1.515


def test_only_the_line_of_the_targets_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One endpoint for all cells, within the budget by the bill, and nothing left."""
    fake = FakeSageMaker(
        serve=simulated,
        speed=1.0,  # its bill is in the time that passes here
        account=Account(prices={"ml.g5.2xlarge": USD_PER_H}),
        timing=Timing(creating_s=1, deleting_s=1),
    )
    with fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
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
