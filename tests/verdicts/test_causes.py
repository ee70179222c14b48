"""Each reason of a verdict comes of its cause, and without the cause it stays away."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.verdicts.causes import CAUSES, Cause, a_busy_reference_server, a_server_that_remembers

pytestmark = pytest.mark.usefixtures("deadline")

ROOT = Path(__file__).parents[2]
TRIES = 3
"""A busy machine may hide a cause that lies in its own speed, such as a program that is kept from
its work: it must show in one of these."""


def codes_of(path: Path) -> set[tuple[str, str]]:
    """Return the module's name with the code of each reason that the module gives."""
    return {
        (path.stem, str(node.args[0].value))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name)
        if node.func.id == "Reason"
        if isinstance(node.args[0], ast.Constant)
    }


def each(causes: Sequence[Cause]) -> list[ParameterSet]:
    """Return the causes by their names; what a test of one needs or does is marked."""
    marks = {
        a_server_that_remembers: pytest.mark.llm,
        a_busy_reference_server: pytest.mark.starving,
    }
    return [pytest.param(c, id=c.make.__name__, marks=marks.get(c.make, ())) for c in causes]


def test_every_reason_has_a_cause_here() -> None:
    """No code in the product is without one, and none here is not in the product."""
    modules = [p for package in ROOT.glob("llmperf_*") for p in package.rglob("*.py")]
    given = set[tuple[str, str]]().union(*map(codes_of, modules))
    assert len(given) > 25
    caused = {code for cause in CAUSES for code in cause.codes}
    assert caused == given


@pytest.mark.parametrize("cause", each(CAUSES))
def test_a_cause_is_found_out(cause: Cause) -> None:
    """It is brought about for real, and the verdict or the calibration names it."""
    expected, said = {code for _, code in cause.codes}, set[str]()
    for _ in range(1 if cause.controlled else TRIES):
        said |= {reason.code for reason in cause.make(True)}  # noqa: FBT003
        if expected <= said:
            break
    assert expected <= said


@pytest.mark.parametrize("cause", each([c for c in CAUSES if c.controlled]))
def test_without_its_cause_a_reason_stays_away(cause: Cause) -> None:
    """The same stage, but for the cause."""
    said = {reason.code for reason in cause.make(False)}  # noqa: FBT003
    assert not said & {code for _, code in cause.codes}
