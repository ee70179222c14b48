"""What docs/sagemaker.md shows in Python runs as it is shown, on a fake SageMaker."""

import re
from pathlib import Path

import pytest

from llmperf_core import Run
from llmperf_sagemaker.testing import Account, FakeSageMaker
from tests.sagemaker.clients import (
    AT_ONCE,
    boto,
    create_config,
    create_endpoint,
    create_model,
    wait,
)
from tests.sagemaker.deploying import IMAGE, ROLE
from tests.sagemaker.serving import simulated

pytestmark = pytest.mark.usefixtures("deadline")

PAGE = Path(__file__).parents[2] / "docs" / "sagemaker.md"
PRICES = {"ml.g5.2xlarge": 1.515, "ml.g5.12xlarge": 7.09}


def blocks() -> list[str]:
    """Return the page's Python blocks, shortened, and with an image where one is looked up."""
    text = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    shown = [block.replace("(1, 5, 10, 20)", "(1, 2)") for block in text]
    shown = [re.sub(r"(lp\.sweep\(.*), loads\)", r"\1, loads, duration_s=1)", b) for b in shown]
    return [
        block.replace('tgi_version="1.0.3",', f'image="{IMAGE}", role="{ROLE}",') for block in shown
    ]


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint is measured and left, one is deployed, measured and deleted, a price is asked."""
    fake = FakeSageMaker(serve=simulated, timing=AT_ONCE, account=Account(prices=PRICES))
    with fake:
        client = boto(fake)
        create_model(client)
        create_config(client)
        create_endpoint(client, "llama")
        wait(client, "endpoint_in_service", "llama")
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        namespace: dict[str, object] = {}
        measured = []
        for block in blocks()[:3]:
            exec(compile(block, str(PAGE), "exec"), namespace)  # noqa: S102 -- our own page
            measured.append(namespace["run"])

    attached, deployed, _ = measured
    assert isinstance(attached, Run)
    assert isinstance(deployed, Run)
    assert attached is not deployed
    assert [len(run.stages) for run in (attached, deployed)] == [2, 2]
    assert attached.spec.simulated
    assert deployed.spec.simulated
    assert fake.holds() == {"Model": ["m"], "EndpointConfig": ["c"], "Endpoint": ["llama"]}
