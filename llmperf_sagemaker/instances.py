"""The instance types that can host a model: their GPUs and their disks.

They lie beside this module in `instances.json`.
Source: EC2 DescribeInstanceTypes (GpuInfo, InstanceStorageSupported) for those names that
SageMaker's CreateEndpointConfig takes.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec
from attrs import frozen


@frozen(kw_only=True)
class InstanceType:
    """One instance type with GPUs."""

    name: str
    """`ml.g5.2xlarge`, for one."""
    gpus: int
    gpu: str
    """The name of each."""
    gpu_mib: int
    """The memory of each, as the driver has it: less than what its maker prints on the box."""
    nvme: bool
    """Whether it has a disk of its own; else a volume of EBS is paid for beside."""


@cache
def instance_types() -> Mapping[str, InstanceType]:
    """Return the known instance types by name."""
    stored = files("llmperf_sagemaker").joinpath("instances.json").read_bytes()
    known = msgspec.json.decode(stored, type=list[InstanceType])
    return {instance.name: instance for instance in known}
