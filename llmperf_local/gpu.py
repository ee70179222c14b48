"""NVIDIA GPUs of this machine, by NVML: what they are, and how they fare."""

import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar

from anyio.to_thread import run_sync
from attrs import frozen

from llmperf_core.target import Json, Meter, Read

T = TypeVar("T")
Nvml: TypeAlias = Any
"""The module `pynvml`, which has no types."""

# Source: NVIDIA's nvml.h, nvmlClocksEventReason*; the numbers are part of its interface.
_POWER_CAP, _POWER_BRAKE = 0x4, 0x80
_HEAT_BY_SOFTWARE, _HEAT_BY_HARDWARE = 0x20, 0x40
_HARDWARE = 0x8
"""Of unknown cause: older GPUs tell no more."""


def _pynvml() -> Nvml:
    return importlib.import_module("pynvml")


@contextmanager
def _opened(load: Callable[[], Nvml]) -> Iterator[Nvml]:
    """Start NVML, which counts how often that is done, and end it once."""
    nvml = load()
    nvml.nvmlInit()
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


@frozen
class NvidiaGpus:
    """What the entry point `gpus` yields.

    Args:
        load: returns the module that speaks to NVML.
    """

    load: Callable[[], Nvml] = _pynvml

    def describe(self) -> Json:
        """Return driver, CUDA version and devices; where there is none, why."""
        try:
            with _opened(self.load) as nvml:
                return {
                    "driver": _text(nvml.nvmlSystemGetDriverVersion()),
                    "cuda": _cuda(nvml),
                    "devices": [_device(nvml, handle) for handle in _handles(nvml)],
                }
        except Exception as error:  # noqa: BLE001 -- NVML's own errors cannot be named without it
            return {"devices": [], "none_because": _reason(error)}

    def meters(self) -> Sequence[Meter]:
        """Return each GPU as a meter of telemetry."""
        try:
            with _opened(self.load) as nvml:
                names = [_text(nvml.nvmlDeviceGetName(handle)) for handle in _handles(nvml)]
        except Exception:  # noqa: BLE001 -- as above; `describe` says it
            return ()
        return [_Gpu(index, name, self.load) for index, name in enumerate(names)]


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "nvidia-ml-py is not installed; run: pip install 'llmperf-toolkit[local]'"
    return str(error)


@frozen
class _Gpu:
    """One GPU as a meter of telemetry."""

    index: int
    what: str
    load: Callable[[], Nvml]

    @property
    def name(self) -> str:
        return f"gpu{self.index}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Read]:
        # The calls take milliseconds, and on a GPU that hangs for ever.
        with _opened(self.load) as nvml:
            handle = nvml.nvmlDeviceGetHandleByIndex(self.index)

            async def read() -> Mapping[str, float]:
                return await run_sync(_state, nvml, handle, abandon_on_cancel=True)

            yield read


def _handles(nvml: Nvml) -> list[object]:
    return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]


def _device(nvml: Nvml, handle: object) -> Json:
    limit_mw = _if_told(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    usual_mw = _if_told(nvml, lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
    return {
        "name": _text(nvml.nvmlDeviceGetName(handle)),
        "memory_bytes": _if_told(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total),
        "power_limit_w": _watts(limit_mw),
        "power_limit_default_w": _watts(usual_mw),
        "sm_clock_max_mhz": _if_told(
            nvml, lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
        ),
        "memory_clock_max_mhz": _if_told(
            nvml, lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)
        ),
    }


def _state(nvml: Nvml, handle: object) -> Mapping[str, float]:
    """Return how a GPU fares; what it does not tell is left out."""
    readings: Mapping[str, Callable[[], float]] = {
        "busy": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        "memory_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
        "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "energy_j": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(
            handle, nvml.NVML_TEMPERATURE_GPU
        ),
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
    }  # fmt: skip
    told = {word: _if_told(nvml, reading) for word, reading in readings.items()}
    reasons = _if_told(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    if reasons is not None:
        told["slowed_by_power"] = bool(reasons & (_POWER_CAP | _POWER_BRAKE))
        told["slowed_by_heat"] = bool(reasons & (_HEAT_BY_SOFTWARE | _HEAT_BY_HARDWARE))
        told["slowed_by_hardware"] = bool(reasons & _HARDWARE)
    return {word: float(value) for word, value in told.items() if value is not None}


def _if_told(nvml: Nvml, reading: Callable[[], T]) -> T | None:
    """Return a reading; None where this GPU, this driver or this user is not told it."""
    untold = (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NoPermission,
    )
    try:
        return reading()
    except untold:
        return None


def _cuda(nvml: Nvml) -> str:
    """Return the newest CUDA that the driver supports, `12.4`; NVML says 12040."""
    version = nvml.nvmlSystemGetCudaDriverVersion_v2()
    return f"{version // 1000}.{version % 1000 // 10}"


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1e3


def _text(said: str | bytes) -> str:
    """Return what NVML says as text: its older bindings say bytes."""
    return said.decode() if isinstance(said, bytes) else said


gpus = NvidiaGpus()
"""The entry point `gpus`."""
