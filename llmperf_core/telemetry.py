"""What was read of a server and of its machine while a stage was measured."""

from collections.abc import Mapping

from attrs import Factory, frozen

COUNTERS = frozenset(
    {
        "requests",
        "output_tokens",
        "ended_tokens",
        "input_tokens",
        "cached_tokens",
        "looked_up_tokens",
        "total_s",
        "validation_s",
        "queue_s",
        "inference_s",
        "energy_j",
        "cpu_s",
        "overhead_s",
        "model_s",
        "first_chunks",
        "first_chunk_s",
        "errors_4xx",
        "errors_5xx",
    }
)
"""The words for what only ever rises; what counts of it is by how much it rose. Any other word is a
state, of which the mean counts.

Of a server: `requests` answered whole; `output_tokens`, counted as each is generated, or
`ended_tokens`, counted when their request ends; `input_tokens`; `cached_tokens` of the prefix cache
among `looked_up_tokens`; and the durations of the answered requests, summed. Its states are
`queued` and `running` requests, `kv_use` (0 to 1) and `kv_tokens`.

Of a GPU: `energy_j`; its states are `busy` (0 to 1), `memory_bytes`, `power_w`, `temperature_c`,
`sm_clock_mhz`, `memory_clock_mhz`, and 1 or 0 for each of `slowed_by_heat`, `slowed_by_power` and
`slowed_by_hardware`. Of a container: `cpu_s` and the state `memory_bytes`.

Of a gateway before the server: `requests`; summed over them, its own time and that of the server
behind it, `overhead_s` and `model_s`; `first_chunk_s`, summed over `first_chunks` streams;
`errors_4xx` and `errors_5xx`. Of a machine of which not more is known, the states `busy` (of its
GPUs, 0 to 1), `memory_use` (0 to 1) and `cpu_cores`.
"""


@frozen(kw_only=True)
class Sample:
    """One reading of one meter."""

    at_ns: int
    """On the run's clock: the middle of the reading."""
    meter: str
    """`server`, `gpu0`, `container`, …"""
    values: Mapping[str, float]
    """By our words for them; what the meter does not tell is left out."""


@frozen(kw_only=True)
class Telemetry:
    """All readings of a stage, from before its first request until after its last."""

    meters: Mapping[str, str] = Factory(dict)
    """What was read, by name: `{"server": "/metrics of TGI", "gpu0": "NVIDIA A10G"}`."""
    samples: tuple[Sample, ...] = ()
    """In the order of reading."""
    failures: Mapping[str, int] = Factory(dict)
    """How often a meter could not be read, by its name; those that never failed are left out."""

    def and_later(self, later: "Telemetry") -> "Telemetry":
        """Return these readings and others of the same stage; meters of one name are theirs."""
        kept = [sample for sample in self.samples if sample.meter not in later.meters]
        failures = {name: n for name, n in self.failures.items() if name not in later.meters}
        return Telemetry(
            meters={**self.meters, **later.meters},
            samples=tuple(sorted([*kept, *later.samples], key=lambda sample: sample.at_ns)),
            failures={**failures, **later.failures},
        )
