"""SageMaker targets."""

from llmperf_sagemaker.attached import Endpoint
from llmperf_sagemaker.instances import InstanceType, instance_types
from llmperf_sagemaker.joining import Served, server_side
from llmperf_sagemaker.prices import price_of

__all__ = ["Endpoint", "InstanceType", "Served", "instance_types", "price_of", "server_side"]
