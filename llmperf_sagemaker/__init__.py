"""SageMaker targets: an endpoint that is there, or one that is deployed and deleted again."""

from llmperf_sagemaker.attached import Endpoint
from llmperf_sagemaker.deployment import Deployment
from llmperf_sagemaker.dlc import DLCS, LMI, SGLANG, TGI, VLLM, Dlc
from llmperf_sagemaker.instances import InstanceType, instance_types
from llmperf_sagemaker.joining import Served, server_side
from llmperf_sagemaker.prices import price_of

__all__ = [
    "DLCS",
    "LMI",
    "SGLANG",
    "TGI",
    "VLLM",
    "Deployment",
    "Dlc",
    "Endpoint",
    "InstanceType",
    "Served",
    "instance_types",
    "price_of",
    "server_side",
]
