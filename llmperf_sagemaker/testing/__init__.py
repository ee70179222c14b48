"""A fake SageMaker to test against: no AWS, no cost, real clients over real sockets."""

from llmperf_sagemaker.testing.account import Account, Key, Timing
from llmperf_sagemaker.testing.deployment import Deployed, Serve
from llmperf_sagemaker.testing.door import Call
from llmperf_sagemaker.testing.fake import FakeSageMaker
from llmperf_sagemaker.testing.planted import (
    NO_CAPACITY,
    UNHEALTHY,
    BrokenStream,
    FailedBringUp,
    RefusedCall,
    Streams,
)
from llmperf_sagemaker.testing.separate import SeparateFake

__all__ = [
    "NO_CAPACITY",
    "UNHEALTHY",
    "Account",
    "BrokenStream",
    "Call",
    "Deployed",
    "FailedBringUp",
    "FakeSageMaker",
    "Key",
    "RefusedCall",
    "SeparateFake",
    "Serve",
    "Streams",
    "Timing",
]
