"""One plan, shared out among workers."""

from collections.abc import Iterable, Iterator
from itertools import islice


def part_of_plan(
    instants: Iterable[int], *, worker: int, workers: int
) -> Iterator[tuple[int, int]]:
    """Yield what one of several workers starts: ordinals in the plan, each with its instant.

    Every worker draws the whole plan from the same seed and takes each `workers`-th request, so
    together they start every request once, and the law of the arrivals is that of the plan
    however many they are. (Workers with seeds of their own would not do: the sum of their constant
    rates is not constant.)

    Args:
        instants: the whole plan.
        worker: which of them, from 0.
        workers: how many there are.

    Raises:
        ValueError: there is no such worker.
    """
    if not 0 <= worker < workers:
        raise ValueError(f"there is no worker {worker} of {workers}")
    return islice(enumerate(instants), worker, None, workers)
