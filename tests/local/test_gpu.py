"""GPUs by NVML: against a stand-in with the module's functions, and on a real one if there is."""

import inspect

import pynvml
import pytest

from llmperf_core.run.environment import environment
from llmperf_core.run.hardware import hardware
from llmperf_local.gpu import NvidiaGpus
from tests.local.fake_nvml import LIKE_A10G, FakeNvml


def gpus(fake: FakeNvml) -> NvidiaGpus:
    """Return the GPUs of a machine that is made up."""
    return NvidiaGpus(load=lambda: fake)


def test_the_stand_in_has_the_functions_of_the_real_module() -> None:
    """A function that pynvml does not have, or takes other arguments, would prove nothing."""
    functions = [name for name in vars(FakeNvml) if name.startswith("nvml")]

    assert len(functions) >= 15
    for name in functions:
        real = inspect.signature(getattr(pynvml, name))
        fake = inspect.signature(getattr(FakeNvml, name))
        needed = [p for p in real.parameters.values() if p.default is p.empty]
        assert len(fake.parameters) - 1 == len(needed), name


def test_driver_and_devices_are_described() -> None:
    """Name, memory, clocks and the power limit beside the usual one, which tells a capped card."""
    fake = FakeNvml(count=2)

    assert gpus(fake).describe() == {
        "driver": "535.104.05",
        "cuda": "12.2",
        "devices": [LIKE_A10G, LIKE_A10G],
    }
    assert fake.started == 0


def test_without_a_driver_there_is_none_and_it_says_why() -> None:
    """The real module on a machine without a driver: no devices, a reason, nothing to read."""

    def without_driver() -> object:
        class Module(FakeNvml):
            def nvmlInit(self) -> None:  # noqa: N802
                raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

        return Module()

    found = NvidiaGpus(load=without_driver)

    assert found.describe() == {"devices": [], "none_because": "NVML Shared Library Not Found"}
    assert found.meters() == ()


def test_without_the_module_it_says_what_to_install() -> None:
    """The extra is named."""

    def missing() -> object:
        raise ModuleNotFoundError("No module named 'pynvml'")

    said = NvidiaGpus(load=missing).describe()

    assert isinstance(said, dict)
    assert "pip install 'llmperf-toolkit[local]'" in str(said["none_because"])


async def test_a_gpu_is_read() -> None:
    """A reading is in our words and units; NVML is started while it is open, and ended."""
    fake = FakeNvml(count=2, throttle_reasons=pynvml.nvmlClocksEventReasonSwPowerCap)
    first, second = gpus(fake).meters()

    assert (first.name, second.name, first.what) == ("gpu0", "gpu1", "NVIDIA A10G")
    async with first.open() as read:
        assert fake.started == 1
        assert await read() == {
            "busy": 0.97,
            "memory_bytes": 21_400_000_000,
            "power_w": 143.21,
            "energy_j": 1_000,
            "temperature_c": 64,
            "sm_clock_mhz": 1_410,
            "memory_clock_mhz": 6_250,
            "slowed_by_power": 1,
            "slowed_by_heat": 0,
            "slowed_by_hardware": 0,
        }
    assert fake.started == 0


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (pynvml.nvmlClocksEventReasonSwPowerCap, "slowed_by_power"),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, "slowed_by_power"),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, "slowed_by_heat"),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, "slowed_by_heat"),
        (pynvml.nvmlClocksEventReasonHwSlowdown, "slowed_by_hardware"),
        (pynvml.nvmlClocksEventReasonGpuIdle, ""),
        (pynvml.nvmlClocksEventReasonApplicationsClocksSetting, ""),
    ],
)
async def test_reasons_for_slow_clocks_are_told_apart(reason: int, word: str) -> None:
    """Heat, power, hardware; an idle GPU or one whose clocks were set is not slowed."""
    (gpu,) = gpus(FakeNvml(throttle_reasons=reason)).meters()

    async with gpu.open() as read:
        found = await read()
    assert [name for name, value in found.items() if name.startswith("slowed") and value] == (
        [word] if word else []
    )


async def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    """Older and virtual GPUs know neither energy nor reasons; the rest is read."""
    untold = {"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetCurrentClocksThrottleReasons"}
    (gpu,) = gpus(FakeNvml(unsupported=frozenset(untold))).meters()

    async with gpu.open() as read:
        found = await read()
    assert "energy_j" not in found
    assert not any(name.startswith("slowed") for name in found)
    assert found["power_w"] == 143.21


async def test_a_gpu_that_is_lost_is_a_failed_reading() -> None:
    """What NVML cannot do any more is an error for the sampler to count, not an empty reading."""
    fake = FakeNvml()
    (gpu,) = gpus(fake).meters()

    async with gpu.open() as read:
        fake.lost = True
        with pytest.raises(pynvml.NVMLError):
            await read()
    assert fake.started == 0


def test_the_environment_holds_them() -> None:
    """By the entry point: on any machine there are devices, or a reason why there are none."""
    found = environment()["gpus"]

    assert "gpus" in hardware()
    assert isinstance(found, dict)
    assert bool(found["devices"]) != bool(found.get("none_because"))


@pytest.mark.gpu
async def test_a_real_gpu_is_read() -> None:
    """On a machine that has one: memory, power and temperature are those of something that runs."""
    (gpu, *_) = hardware()["gpus"].meters()

    async with gpu.open() as read:
        found = await read()
    assert 0 <= found["busy"] <= 1
    assert found["memory_bytes"] > 0
    assert 0 < found["temperature_c"] < 120
