"""The fake in a process of its own."""

import subprocess
import sys
from contextlib import AbstractContextManager

import pytest

from llmperf_core.errors import StartError
from llmperf_core.target import Endpoint
from llmperf_sagemaker.testing import Account, Deployed, FakeSageMaker, SeparateFake
from tests.sagemaker.clients import AT_ONCE, boto, deploy, wait
from tests.sagemaker.serving import ask, parts, prompt, simulated, tokens

PRICED = Account(prices={"ml.g5.12xlarge": 7.09})


def test_it_is_the_same_elsewhere() -> None:
    """It serves, holds and bills as the one in this process does."""
    made = FakeSageMaker(serve=simulated, timing=AT_ONCE, account=PRICED)
    with SeparateFake(made) as fake:
        client = boto(fake)
        deploy(client)
        wait(client, "endpoint_in_service")
        stream = parts(ask(boto(fake, "sagemaker-runtime"), prompt(tokens=20)))
        held, usd_per_h, usd = fake.holds(), fake.usd_per_h, fake.usd
        calls = [call.operation for call in fake.calls]
        url = fake.url

    assert len(tokens(b"".join(stream))) == 20
    assert held == {"Model": ["m"], "EndpointConfig": ["c"], "Endpoint": ["e"]}
    assert usd_per_h == 7.09
    assert usd > 0.0
    assert calls[:3] == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert url.startswith("http://127.0.0.1:")
    assert fake.url == ""


class Unreadable:
    """Something that can be sent to another process, and not be read there."""

    def __call__(self, _: Deployed) -> AbstractContextManager[str | Endpoint]:
        """Serve nothing."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Say that it is a number, which it is not."""
        return int, ("no number",)


def test_what_cannot_be_made_does_not_come_up(capfd: pytest.CaptureFixture[str]) -> None:
    """A fake that cannot be made there is an error here, and says why on standard error."""
    fake = SeparateFake(FakeSageMaker(serve=Unreadable()))
    with pytest.raises(StartError, match="fake SageMaker"), fake:
        pass

    assert "no number" in capfd.readouterr().err


_DYING = """
import os, signal
from llmperf_sagemaker.testing import FakeSageMaker, SeparateFake
with SeparateFake(FakeSageMaker()) as fake:
    print(fake._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_dies_with_its_parent() -> None:
    """A parent that is killed leaves no fake: what it holds open for its output ends."""
    ran = subprocess.run(
        [sys.executable, "-c", _DYING], capture_output=True, text=True, check=False, timeout=60
    )

    # `run` has read standard error to its end, which the fake holds as long as it lives.
    assert ran.returncode == -9
    assert int(ran.stdout) > 0
