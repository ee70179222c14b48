"""What the readings of a server and its machine come to over the window."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from attrs import frozen

from llmperf_core.judge.crosscheck import CrossCheck, Ours, cross_check
from llmperf_core.telemetry import COUNTERS, Sample, Telemetry
from llmperf_core.timeline import Timeline, Window
from llmperf_core.units import s_from_ns


@frozen(kw_only=True)
class Level:
    """A state over the readings of the window."""

    mean: float
    min: float
    max: float


@frozen(kw_only=True)
class Watched:
    """What the readings of one meter come to."""

    what: str
    readings: int
    """Those in the window."""
    failures: int
    """Those that failed, in the whole stage."""
    levels: Mapping[str, Level]
    """Of the states."""
    stretch: Window | None
    """Between the readings nearest to the window's edges; None where there are no two."""
    rises: Mapping[str, float]
    """Of the counters: by how much each rose over `stretch`. One that fell is left out: the server
    was started anew."""


@frozen(kw_only=True)
class Watch:
    """What all meters come to. `watch["gpu0"].levels["power_w"].mean`."""

    meters: Mapping[str, Watched]
    crosscheck: CrossCheck | None
    """The server's counts held against ours; None where it does not count."""
    joules_per_token: float | None
    """Energy of all GPUs that were read ÷ output tokens that arrived meanwhile; None where no GPU
    tells its energy or its power."""

    def __getitem__(self, meter: str) -> Watched:
        return self.meters[meter]


def watch(telemetry: Telemetry, timelines: Iterable[Timeline], window: Window) -> Watch:
    """Return what the readings of a stage come to over its window.

    Args:
        telemetry: the readings.
        timelines: all requests of the stage, those of warm-up and drain too.
        window: what counts.
    """
    meters = {name: _watched(name, telemetry, window) for name in telemetry.meters}
    server = meters.get("server")
    ours = Ours.of(timelines)
    return Watch(
        meters=meters,
        crosscheck=None
        if server is None or server.stretch is None
        else cross_check(server.rises, ours, server.stretch),
        joules_per_token=_joules_per_token(meters, ours),
    )


def _watched(name: str, telemetry: Telemetry, window: Window) -> Watched:
    samples = [sample for sample in telemetry.samples if sample.meter == name]
    inside = [sample for sample in samples if sample.at_ns in window]
    edges = _edges(samples, window)
    return Watched(
        what=telemetry.meters[name],
        readings=len(inside),
        failures=telemetry.failures.get(name, 0),
        levels=_levels(inside),
        stretch=edges and Window(open_at_ns=edges[0].at_ns, close_at_ns=edges[1].at_ns),
        rises={} if edges is None else _rises(*edges),
    )


def _edges(samples: Sequence[Sample], window: Window) -> tuple[Sample, Sample] | None:
    """Return the readings nearest to the window's edges; None where there are no two.

    Where one is the nearest to both, the nearer of its neighbours stands for the other edge: a
    meter that is read less often than the window is long tells of a longer stretch.
    """
    if len(samples) < 2:
        return None
    opening, closing = (
        min(range(len(samples)), key=lambda k: abs(samples[k].at_ns - at_ns))
        for at_ns in (window.open_at_ns, window.close_at_ns)
    )
    if opening == closing:
        later = min(opening, len(samples) - 2)
        earlier = max(later - 1, 0)
        opening = min((earlier, later), key=lambda k: _distance_ns(samples[k : k + 2], window))
        closing = opening + 1
    first, last = samples[opening], samples[closing]
    return (first, last) if first.at_ns < last.at_ns else None


def _distance_ns(pair: Sequence[Sample], window: Window) -> int:
    """Return how far two readings are from the window's edges."""
    return abs(pair[0].at_ns - window.open_at_ns) + abs(pair[1].at_ns - window.close_at_ns)


def _levels(inside: Sequence[Sample]) -> Mapping[str, Level]:
    words = dict.fromkeys(word for sample in inside for word in sample.values)
    levels = {}
    for word in (word for word in words if word not in COUNTERS):
        values = [sample.values[word] for sample in inside if word in sample.values]
        levels[word] = Level(mean=fmean(values), min=min(values), max=max(values))
    return levels


def _rises(opening: Sample, closing: Sample) -> Mapping[str, float]:
    """Return by how much each counter rose. A server shows some only once there is something."""
    rises = {
        word: value - opening.values.get(word, 0.0)
        for word, value in closing.values.items()
        if word in COUNTERS
    }
    return {word: rise for word, rise in rises.items() if rise >= 0}


def _joules_per_token(meters: Mapping[str, Watched], ours: Ours) -> float | None:
    """Return energy ÷ tokens, each GPU over its own stretch, as those differ by milliseconds."""
    per_token = [
        energy_j / tokens
        for name, watched in meters.items()
        if name.startswith("gpu")
        and (energy_j := _energy_j(watched)) is not None
        and watched.stretch is not None
        and (tokens := ours.tokens_in(watched.stretch))
    ]
    return sum(per_token) if per_token else None


def _energy_j(watched: Watched) -> float | None:
    """Return the energy of a GPU over its stretch: its own counter, else the mean power × time."""
    if "energy_j" in watched.rises:
        return watched.rises["energy_j"]
    power = watched.levels.get("power_w")
    if power is None or watched.stretch is None:
        return None
    return power.mean * s_from_ns(watched.stretch.duration_ns)
