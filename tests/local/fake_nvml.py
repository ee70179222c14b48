# ruff: noqa: D102, N802 -- the names are those of the real module, whose documentation is NVIDIA's
"""A stand-in for `pynvml` on a machine with GPUs: the only place where nothing real can run.

It has the functions that `llmperf_local.gpu` calls, with the signatures, units and errors of the
real module.
"""

from collections.abc import Mapping
from types import SimpleNamespace

import pynvml
from attrs import define, field

HANDLE = 7
"""Added to an index, it makes a handle."""


@define
class FakeNvml:
    """A machine with GPUs of one kind, and what they say."""

    count: int = 1
    throttle_reasons: int = 0
    energy_mj: list[int] = field(factory=lambda: [1_000_000])
    """What each reading of the energy counter says; the last is repeated."""
    unsupported: frozenset[str] = frozenset()
    """Functions that this GPU does not support."""
    lost: bool = False
    """Whether the GPU has fallen off the bus."""
    started: int = 0
    """How often NVML was started and not ended."""
    NVML_CLOCK_SM: int = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM: int = pynvml.NVML_CLOCK_MEM
    NVML_TEMPERATURE_GPU: int = pynvml.NVML_TEMPERATURE_GPU
    NVMLError_NotSupported: type = pynvml.NVMLError_NotSupported
    NVMLError_FunctionNotFound: type = pynvml.NVMLError_FunctionNotFound
    NVMLError_NoPermission: type = pynvml.NVMLError_NoPermission

    def _check(self, function: str) -> None:
        assert self.started > 0, "NVML was not started"
        if self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if function in self.unsupported:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlInit(self) -> None:
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "535.104.05"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 12020

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return HANDLE + index

    def nvmlDeviceGetName(self, handle: int) -> bytes | str:
        # Older bindings say bytes.
        return b"NVIDIA A10G" if handle == HANDLE else "NVIDIA A10G"

    def nvmlDeviceGetMemoryInfo(self, _handle: int) -> SimpleNamespace:
        self._check("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(total=24_146_608_128, used=21_400_000_000, free=2_746_608_128)

    def nvmlDeviceGetEnforcedPowerLimit(self, _handle: int) -> int:
        return 250_000

    def nvmlDeviceGetPowerManagementDefaultLimit(self, _handle: int) -> int:
        return 300_000

    def nvmlDeviceGetMaxClockInfo(self, _handle: int, kind: int) -> int:
        return {self.NVML_CLOCK_SM: 1_710, self.NVML_CLOCK_MEM: 6_251}[kind]

    def nvmlDeviceGetUtilizationRates(self, _handle: int) -> SimpleNamespace:
        self._check("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=97, memory=60)

    def nvmlDeviceGetPowerUsage(self, _handle: int) -> int:
        self._check("nvmlDeviceGetPowerUsage")
        return 143_210

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle: int) -> int:
        self._check("nvmlDeviceGetTotalEnergyConsumption")
        return self.energy_mj.pop(0) if len(self.energy_mj) > 1 else self.energy_mj[0]

    def nvmlDeviceGetTemperature(self, _handle: int, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return 64

    def nvmlDeviceGetClockInfo(self, _handle: int, kind: int) -> int:
        return {self.NVML_CLOCK_SM: 1_410, self.NVML_CLOCK_MEM: 6_250}[kind]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _handle: int) -> int:
        self._check("nvmlDeviceGetCurrentClocksThrottleReasons")
        return self.throttle_reasons


LIKE_A10G: Mapping[str, object] = {
    "name": "NVIDIA A10G",
    "memory_bytes": 24_146_608_128,
    "power_limit_w": 250.0,
    "power_limit_default_w": 300.0,
    "sm_clock_max_mhz": 1_710,
    "memory_clock_max_mhz": 6_251,
}
"""How such a GPU is described."""
