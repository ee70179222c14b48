"""The instances of the published study, which the simulator stands in for."""

from collections.abc import Mapping

from llmperf_core.decide import Gpus
from llmperf_core.units import MIB

INSTANCES: Mapping[str, Gpus] = {
    "ml.g5.2xlarge": Gpus(count=1, memory_bytes=22_888 * MIB),
    "ml.g5.12xlarge": Gpus(count=4, memory_bytes=22_888 * MIB),
    "ml.g5.48xlarge": Gpus(count=8, memory_bytes=22_888 * MIB),
    "ml.p4d.24xlarge": Gpus(count=8, memory_bytes=40_960 * MIB),
}
"""The instances of the published study: A10G in the g5, A100 in the p4d.

Source: EC2 DescribeInstanceTypes, GpuInfo.Gpus[].MemoryInfo.SizeInMiB.
"""
