"""Every load comes back from a stored run, also one that is not ours."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from attrs import frozen

from llmperf_core.errors import UsageError
from llmperf_core.load import (
    ClosedLoop,
    Concurrency,
    ConstantRate,
    Gamma,
    LoadProfile,
    OpenLoop,
    Poisson,
    Ramp,
    Replay,
    Steps,
    load_label,
    load_of,
    record_of,
)

OURS: list[LoadProfile] = [
    Concurrency(20),
    ConstantRate(2.5),
    Poisson(0.125),
    Gamma(8, 0.25),
    Ramp(1, 20, duration_s=60, spread="constant"),
    Steps([(2, 30), (8, 10)]),
    Replay([0, 5, 7], input_tokens=[1, 2, 3]),
]


@pytest.mark.parametrize("load", OURS, ids=lambda load: load.kind)
def test_a_load_comes_back_as_it_was(load: LoadProfile) -> None:
    """With all its fields, through JSON."""
    assert load_of(json.loads(json.dumps(record_of(load)))) == load


@pytest.mark.parametrize(
    ("record", "load"),
    [
        ({"kind": "concurrency", "value": 5}, Concurrency(5)),
        ({"kind": "constant", "value": 2.5}, ConstantRate(2.5)),
        ({"kind": "poisson", "value": 0.5}, Poisson(0.5)),
    ],
)
def test_the_first_runs_can_still_be_read(record: dict[str, object], load: LoadProfile) -> None:
    """They hold a value and no fields."""
    assert load_of(record) == load


@frozen
class Tides:
    """An open loop of somebody else."""

    high_rps: float
    moon: complex = 1j

    @property
    def kind(self) -> str:
        """Its name."""
        return "tides"

    @property
    def value(self) -> float:
        """Half of the high tide."""
        return self.high_rps / 2

    def instants(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield one instant."""
        return iter([int(rng.integers(5))])


class Crew:
    """A closed loop of somebody else, and no attrs class."""

    kind = "crew"
    value = 2.0
    slots = 2


def test_an_open_loop_of_others_comes_back_to_be_judged() -> None:
    """Its figures are kept, and it is still an open loop; but nothing of the file is run."""
    stored = load_of(json.loads(json.dumps(record_of(Tides(8)))))

    assert isinstance(stored, OpenLoop)
    assert not isinstance(stored, ClosedLoop)
    assert (stored.kind, stored.value, load_label(stored)) == ("tides", 4, "tides 4/s")
    assert record_of(stored) == record_of(Tides(8)), "however often it is stored"
    with pytest.raises(UsageError, match=r"tides 4/s.*can be judged, not run"):
        stored.instants(np.random.default_rng(0))


def test_a_closed_loop_of_others_comes_back_to_be_judged() -> None:
    """Its slots are kept, and it is still a closed loop."""
    stored = load_of(json.loads(json.dumps(record_of(Crew()))))

    assert isinstance(stored, ClosedLoop)
    assert not isinstance(stored, OpenLoop)
    assert (stored.kind, stored.slots, load_label(stored)) == ("crew", 2, "crew 2")


def test_labels_tell_loads_apart() -> None:
    """In the words of the command line."""
    assert [load_label(load) for load in OURS[:4]] == [
        "concurrency 20",
        "constant 2.5/s",
        "poisson 0.125/s",
        "gamma:0.25 8/s",
    ]
