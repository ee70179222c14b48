"""A deployment for tests, and a fake SageMaker that brings it up quickly."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmperf_core.lease import Lease
from llmperf_sagemaker import Deployment
from llmperf_sagemaker.account import Account
from llmperf_sagemaker.leftovers import NOTES, Note
from llmperf_sagemaker.plane import CONFIG, ENDPOINT, MODEL, Plane
from llmperf_sagemaker.testing import Account as FakeAccount
from llmperf_sagemaker.testing import FakeSageMaker, Timing
from llmperf_sagemaker.wanted import Hosting, Served, Wanted, tags_of, wanted

ROLE = "arn:aws:iam::123456789012:role/llmperf"
IMAGE = "763104351884.dkr.ecr.us-west-2.amazonaws.com/huggingface-pytorch-tgi-inference:x-tgi3.3.6"
TYPE = "ml.g5.2xlarge"
PRICES = {TYPE: 1.5, "ml.m5.large": 0.1}


def a_deployment(model: str = "meta-llama/Llama-2-7b-hf", **settings: Any) -> Deployment:
    """Return a deployment that may cost 5 USD."""
    given = {"instance_type": TYPE, "image": IMAGE, "role": ROLE, "max_usd": 5.0}
    return Deployment(model, **{**given, "measuring_s": 600.0, **settings})


@contextmanager
def faked(place: Path, *, elsewhere: str | None = None, **settings: Any) -> Iterator[FakeSageMaker]:
    """Have AWS's clients talk to a fake whose endpoints take a tenth of a second."""
    given = {
        "speed": 1000.0,
        "timing": Timing(creating_s=100, deleting_s=50),
        "account": FakeAccount(prices=PRICES),
    }
    with FakeSageMaker(**{**given, **settings}) as fake, pytest.MonkeyPatch.context() as patch:
        for name, value in fake.environment(elsewhere=elsewhere).items():
            patch.setenv(name, value)
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        yield fake


def called(fake: FakeSageMaker, verb: str) -> Sequence[str]:
    """Return the operations that were called whose names begin with a verb, in order."""
    return [call.operation for call in fake.calls if call.operation.startswith(verb)]


def asked(fake: FakeSageMaker, operation: str) -> Mapping[str, Any]:
    """Return what the last call of an operation asked for."""
    return [call.asked for call in fake.calls if call.operation == operation][-1]


def notes() -> Sequence[Path]:
    """Return the notes that are there."""
    return list(NOTES.folder.glob("*"))


def left_behind(lease: Lease, *, name: str | None = None, noted: bool = False) -> Wanted:
    """Create all of a deployment, as a process that has been killed since then."""
    name = name or f"llmperf-{lease.run}-0"
    it = wanted(
        name,
        Served(image=IMAGE, environment={"HF_MODEL_ID": "m"}, role=ROLE),
        Hosting(instance_type=TYPE, startup_s=600),
        tags_of(lease, max_usd=5),
    )
    account = Account(region="us-west-2")
    if noted:
        Note(lease=lease, name=name, account=account, bills="1.5 USD/h").write()
    plane = Plane.of(account)
    for kind in (MODEL, CONFIG, ENDPOINT):
        plane.create(kind, it.requests[kind])
    return it
