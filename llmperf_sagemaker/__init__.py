"""SageMaker targets."""

from llmperf_sagemaker.attached import Endpoint

__all__ = ["Endpoint"]
