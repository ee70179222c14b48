"""What a load profile owes. A profile is pure: it plans, `run/` waits."""

from collections.abc import Iterator
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np


@runtime_checkable
class ClosedLoop(Protocol):
    """Keeps a number of requests in flight: each slot asks again when its answer has come."""

    @property
    def kind(self) -> str:
        """Its name in stored runs."""
        ...

    @property
    def value(self) -> float:
        """The one figure that it is known by."""
        ...

    @property
    def slots(self) -> int:
        """How many requests are in flight at a time."""
        ...


@runtime_checkable
class OpenLoop(Protocol):
    """Starts requests at planned instants, however long the answers take."""

    @property
    def kind(self) -> str:
        """Its name in stored runs."""
        ...

    @property
    def value(self) -> float:
        """The one figure that it is known by, such as the mean rate."""
        ...

    def instants(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield planned instants in nanoseconds from the start of the stage, non-decreasing.

        A plan that ends closes the window with its last instant.
        """
        ...


LoadProfile: TypeAlias = ClosedLoop | OpenLoop


@runtime_checkable
class Planned(Protocol):
    """An open loop that knows how many requests it plans, before chance has had a say."""

    def planned(self, from_ns: int, to_ns: int) -> int | None:
        """Return how many requests are due in this stretch, or one fewer.

        None where chance decides: then only what was begun of the plan is known.
        """
        ...


@runtime_checkable
class Labelled(Protocol):
    """A profile that one figure does not tell from others of its kind."""

    @property
    def label(self) -> str:
        """What tables call it, in a few words."""
        ...
