"""The addresses of cells: the same for the same measurement, another for any other."""

from collections.abc import Mapping

import pytest
from attrs import evolve

from llmperf_core.decide.cells import Cell, Question
from llmperf_core.load import Concurrency, Poisson, Steps
from llmperf_core.run import Deadlines, Settings
from llmperf_core.target import Json
from llmperf_core.workload import Fixed, InOrder, Synthetic

QUESTION = Question(
    loads=[Concurrency(1), Concurrency(5), Poisson(2)],
    workload=Synthetic(16, 8),
    settings=Settings(duration_s=30, warmup_s=2),
    repeats=2,
)
TARGET: Mapping[str, Json] = {"target": "sim:a", "model": "a"}


def addresses(question: Question, described: Mapping[str, Json] = TARGET) -> list[str]:
    """Return the addresses of a target's cells."""
    return [cell.id for cell in question.cells("sim:a", described)]


def test_a_repeat_goes_through_all_loads() -> None:
    """So that what drifts from hour to hour spreads over them."""
    cells = QUESTION.cells("sim:a", TARGET)

    assert [(cell.load.value, cell.repeat) for cell in cells] == [
        *((1, 1), (5, 1), (2, 1)),
        *((1, 2), (5, 2), (2, 2)),
    ]
    assert [cell.label for cell in cells][3:5] == ["concurrency 1, #2", "concurrency 5, #2"]
    assert len({cell.id for cell in cells}) == 6


def test_every_load_and_repeat_has_a_seed_that_all_targets_share() -> None:
    """Each target is asked the same, and no cell what another one of the target was asked."""
    ours, others = QUESTION.cells("sim:a", TARGET), QUESTION.cells("sim:b", {"target": "sim:b"})

    assert [cell.seed for cell in ours] == [cell.seed for cell in others]
    assert len({cell.seed for cell in ours}) == 6
    assert not {cell.id for cell in ours} & {cell.id for cell in others}
    assert all(0 <= cell.seed < 2**32 for cell in ours)


@pytest.mark.parametrize(
    "same",
    [
        evolve(QUESTION, settings=Settings(duration_s=30.0, warmup_s=2.0)),
        evolve(QUESTION, settings=evolve(QUESTION.settings, quiet=True, folder="anywhere")),
        evolve(QUESTION, settings=evolve(QUESTION.settings, telemetry=False)),
        evolve(QUESTION, workload=Synthetic(16, 8)),
    ],
)
def test_what_changes_nothing_of_the_measurement_keeps_the_address(same: Question) -> None:
    """How a number is written, where it is kept, and what is shown."""
    assert addresses(same) == addresses(QUESTION)


def test_whole_numbers_may_be_written_with_a_point() -> None:
    """Within lists, too."""
    one, other = (evolve(QUESTION, loads=[Steps([(2, 30), (rate, 30)])]) for rate in (8, 8.0))
    assert addresses(one) == addresses(other)


def test_the_order_of_a_description_does_not_matter() -> None:
    """It is a mapping."""
    assert addresses(QUESTION, {"model": "a", "target": "sim:a"}) == addresses(QUESTION)


def test_another_machine_finds_the_same_address() -> None:
    """It is written down here: one that changes makes every study pay again."""
    assert addresses(evolve(QUESTION, workload=Fixed("llamas")))[0] == "36bc187ee1f52fce"


@pytest.mark.parametrize(
    "other",
    [
        evolve(QUESTION, settings=evolve(QUESTION.settings, duration_s=31)),
        evolve(QUESTION, settings=evolve(QUESTION.settings, seed=1)),
        evolve(QUESTION, settings=evolve(QUESTION.settings, in_process=True)),
        evolve(QUESTION, settings=evolve(QUESTION.settings, deadlines=Deadlines(gap_s=1))),
        evolve(QUESTION, workload=Synthetic(16, 9)),
        evolve(QUESTION, workload=Synthetic(16, 8, tokenizer="server")),
        evolve(QUESTION, workload=Synthetic(InOrder([15, 17]), 8)),
    ],
)
def test_what_changes_the_measurement_changes_every_address(other: Question) -> None:
    """Nothing that was measured otherwise is taken for it."""
    assert not set(addresses(other)) & set(addresses(QUESTION))


def test_workloads_that_are_described_alike_are_told_apart_by_what_they_ask() -> None:
    """A description may leave out the values themselves."""
    one, other = (
        evolve(QUESTION, workload=Synthetic(InOrder(lengths), 8))
        for lengths in ([10, 20], [20, 10])
    )

    assert one.workload.describe() == other.workload.describe()
    assert not set(addresses(one)) & set(addresses(other))


def test_a_load_of_another_kind_has_an_address() -> None:
    """One that is no class of attrs, too."""

    class Pairs:
        kind, value, slots = "pairs", 3, 6

    cells: tuple[Cell, ...] = evolve(QUESTION, loads=[Pairs()]).cells("sim:a", TARGET)

    assert cells[0].label == "pairs 3"
