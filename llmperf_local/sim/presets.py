"""The deployments of the published Llama 2 study, as simulated servers.

Their figures lie beside this module in `presets.json`, which `benchmarks/fit_presets.py` writes.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec
from attrs import frozen

from llmperf_core.errors import UsageError
from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import ServerOptions


@frozen(kw_only=True)
class Fit:
    """How well a preset reproduces the study at one load."""

    concurrency: int
    published_ms_per_token: float
    """The median of TGI's time per token."""
    simulated_ms_per_token: float
    published_requests: int
    """In 90 s of asking, those in flight at its end included."""
    simulated_requests: int

    @property
    def ms_per_token_error(self) -> float:
        """Simulated ÷ published − 1."""
        return self.simulated_ms_per_token / self.published_ms_per_token - 1

    @property
    def requests_error(self) -> float:
        """Simulated ÷ published − 1."""
        return self.simulated_requests / self.published_requests - 1


@frozen(kw_only=True)
class Preset:
    """One deployment: what it stands for, how it computes, and how true that is."""

    name: str
    """`MODEL@INSTANCE`, as `sim:` takes it."""
    model_id: str
    instance: str
    tensor_parallel: int
    quantize: str | None
    hardware: Hardware
    options: ServerOptions
    overhead_ns: int
    """What the study's client, gateway and network added to each request."""
    fits: tuple[Fit, ...]
    """At the study's loads."""
    caveat: str | None = None
    """What of the published figures no such machine can do; None if they can all be."""


@cache
def presets() -> Mapping[str, Preset]:
    """Return all presets by name."""
    stored = files("llmperf_local.sim").joinpath("presets.json").read_bytes()
    return {preset.name: preset for preset in msgspec.json.decode(stored, type=list[Preset])}


def preset(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    found = presets().get(name)
    if found is None:
        raise UsageError(f"no preset {name!r}; there are {', '.join(presets())}")
    return found
