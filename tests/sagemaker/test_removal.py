"""A deletion is asked for until it is done, in the right order, and not for ever."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.bringup import BringUp, Price
from llmperf_core.errors import UnreachableError
from llmperf_core.lease import Lease
from llmperf_sagemaker.account import AwsError
from llmperf_sagemaker.budget import WorstCase
from llmperf_sagemaker.plane import COMPONENT, CONFIG, ENDPOINT, MODEL, BusyError, Kind
from llmperf_sagemaker.removal import Removal, StillThereError
from llmperf_sagemaker.wanted import tags_of

LEASE = Lease.new(60)


@define
class Clock:
    """A clock that only sleeping moves."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return its time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Pass some time."""
        self.now_s += seconds


@define
class Scripted:
    """A control plane whose endpoint answers each deletion as a script says."""

    script: Iterator[Exception | None]
    """What each request to delete the endpoint raises; None lets it go."""
    late: bool = False
    """Whether a request that was under way makes the endpoint anew, after its deletion."""
    there: set[Kind] = field(factory=lambda: {ENDPOINT, CONFIG, MODEL})
    deleted: list[Kind] = field(factory=list)
    region: str = "us-west-2"

    def describe(self, kind: Kind, name: str) -> Mapping[str, Any] | None:
        """Say whether it is there."""
        return {f"{kind.name}Arn": f"arn:{name}"} if kind in self.there else None

    def tags(self, arn: str) -> Mapping[str, str]:
        """Say that it is ours."""
        return tags_of(LEASE, max_usd=1) if arn else {}

    def delete(self, kind: Kind, name: str) -> None:
        """Delete it, or refuse to."""
        assert name
        if kind is ENDPOINT:
            error = next(self.script)
            if error is not None:
                raise error
            if self.late:
                self.late = False
                self.deleted.append(kind)
                return
        self.there.discard(kind)
        self.deleted.append(kind)


def removal(plane: Scripted, clock: Clock, patience_s: float = 3000.0) -> Removal:
    """Return a removal in the clock's time."""
    return Removal(
        plane=plane,  # type: ignore[arg-type]
        name="n",
        run=LEASE.run,
        bills="7.09 USD/h",
        patience_s=patience_s,
        report=lambda _: None,
        sleep=clock.sleep,
        clock=clock,
    )


def busy() -> BusyError:
    """Return what SageMaker says while an endpoint is created."""
    return BusyError("DeleteEndpoint", "ValidationException", "Cannot update in-progress endpoint")


def refused(code: str) -> AwsError:
    """Return an error with this code."""
    return AwsError("DeleteEndpoint", code, "no")


@given(
    st.lists(
        st.sampled_from(
            [busy(), refused("ThrottlingException"), UnreachableError("https://x", "no network")]
        ),
        max_size=40,
    )
)
def test_what_passes_is_waited_for(errors: list[Exception]) -> None:
    """However often it is refused within its patience, in the end all is gone, in order."""
    plane = Scripted(iter([*errors, None]))

    removal(plane, Clock()).run_to_end()

    assert plane.there == set()
    assert plane.deleted == [ENDPOINT, CONFIG, MODEL]


def test_patience_ends() -> None:
    """With what is left, what that costs, and how to delete it; its config is still there."""
    clock, plane = Clock(), Scripted(busy() for _ in iter(int, 1))

    with pytest.raises(StillThereError, match=r"tried for 3000 s: it is there\), and bills 7\.09"):
        removal(plane, clock).run_to_end()

    assert 3000 < clock.now_s < 3020
    assert plane.there == {ENDPOINT, CONFIG, MODEL}


@pytest.mark.parametrize("code", ["AccessDeniedException", "ExpiredTokenException"])
def test_what_does_not_pass_is_told_at_once(code: str) -> None:
    """Somebody has to do something, and it bills meanwhile."""
    clock, plane = Clock(), Scripted(iter([refused(code)]))

    with pytest.raises(StillThereError, match="aws sagemaker delete-endpoint --endpoint-name n"):
        removal(plane, clock).run_to_end()

    assert clock.now_s == 0


def test_an_endpoint_that_came_late_goes_too() -> None:
    """A request of a process that was killed may still be under way."""
    plane = Scripted(iter([None, None]), late=True)

    removal(plane, Clock()).run_to_end()

    assert plane.there == set()
    assert plane.deleted == [ENDPOINT, ENDPOINT, CONFIG, MODEL]


def test_what_costs_nothing_says_so() -> None:
    """A model that is left is no reason to hurry."""
    error = StillThereError(MODEL, "n", "us-west-2", "7.09 USD/h", "no")
    component = StillThereError(COMPONENT, "n", "us-west-2", "7.09 USD/h", "no")

    assert "which costs nothing" in str(error)
    assert "aws sagemaker delete-model --model-name n" in str(error)
    assert "--inference-component-name n" in str(component)


@given(
    usd_per_h=st.floats(0, 1000),
    limit_s=st.floats(0, 10_000),
    measuring_s=st.floats(0, 100_000),
    removal_s=st.floats(0, 10_000),
)
def test_the_worst_case_adds_up(
    usd_per_h: float, limit_s: float, measuring_s: float, removal_s: float
) -> None:
    """In USD and hours: it is what each part costs, together, and never less than one of them."""
    price = Price(usd_per_h=usd_per_h, as_of="2026-11-25", source="a test")
    times = BringUp(expected_s=0, limit_s=limit_s, removal_s=removal_s)
    worst = WorstCase(price=price, bring_up=times, measuring_s=measuring_s)

    parts = [usd_per_h * s / 3600 for s in (limit_s, measuring_s, removal_s)]
    assert worst.usd == pytest.approx(sum(parts))
    assert worst.usd >= max(parts) * (1 - 1e-12)
    assert f"{worst.usd:.2f} USD at worst" in worst.arithmetic
