"""Kernel stamps: that they are there, on the run's clock, and where the bytes arrived."""

import socket
import sys
import time
from collections.abc import Iterator

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from llmperf_core.units import NS_PER_MS, NS_PER_S
from llmperf_core.wire import stamping, stamps
from llmperf_core.wire.stamps import ANCILLARY_BYTES, WallOffset, stamp_receives, wall_ns
from tests.wire.scripted_server import no_descriptor_left

BOOTED_NS = 1_700_000_000 * NS_PER_S
"""What the wall clock shows when the monotonic one shows 0."""
QUICK_NS = 60
"""How long the reading of a clock takes."""


@pytest.fixture(autouse=True)
def _no_descriptor_left() -> Iterator[None]:
    with no_descriptor_left():
        yield


@define
class Clocks:
    """Two clocks that go as a test says; reading one takes a moment."""

    now_ns: int = NS_PER_S
    offset_ns: int = BOOTED_NS
    preempted_ns: int = 0
    """For how long the next reading of the wall clock is held up, after it was taken."""

    def monotonic_ns(self) -> int:
        """Read the monotonic clock."""
        self.now_ns += QUICK_NS // 2
        return self.now_ns

    def wall_ns(self) -> int:
        """Read the wall clock."""
        wall_ns = self.now_ns + self.offset_ns
        self.now_ns += QUICK_NS // 2 + self.preempted_ns
        self.preempted_ns = 0
        return wall_ns

    def wall_offset(self) -> WallOffset:
        """Return the offset of these clocks."""
        return WallOffset(self.monotonic_ns, self.wall_ns)


def test_offset_is_that_of_the_clocks() -> None:
    """The offset turns a wall-clock stamp into an instant of the monotonic clock."""
    clocks = Clocks()
    wall = clocks.wall_offset()
    assert abs(wall.offset_ns - BOOTED_NS) <= QUICK_NS
    assert wall.steps == 0


def test_sample_returns_the_instant() -> None:
    """A sample gives the instant at which it was taken."""
    clocks = Clocks()
    assert clocks.wall_offset().sample() == clocks.now_ns


@given(drift_ppm=st.integers(-500, 500))
def test_a_slewed_clock_is_followed(drift_ppm: int) -> None:
    """A clock that is slewed at the most that it may be is followed, and is not a step."""
    clocks = Clocks()
    wall = clocks.wall_offset()
    for _ in range(1_000):
        clocks.now_ns += 5 * NS_PER_MS
        clocks.offset_ns += 5 * NS_PER_MS * drift_ppm // 1_000_000
        wall.sample()
        assert abs(wall.offset_ns - clocks.offset_ns) <= QUICK_NS
    assert wall.steps == 0


@given(steps_ns=st.lists(st.integers(1, 3_600_000).flatmap(lambda ms: st.sampled_from([ms, -ms]))))
def test_steps_are_counted_and_followed(steps_ns: list[int]) -> None:
    """Each jump of the wall clock, ahead or back, is counted once, and followed."""
    clocks = Clocks()
    wall = clocks.wall_offset()
    for step_ms in steps_ns:
        clocks.offset_ns += step_ms * NS_PER_MS
        wall.sample()
        wall.sample()
        assert abs(wall.offset_ns - clocks.offset_ns) <= QUICK_NS
    assert wall.steps == len(steps_ns)


@given(held_up_ns=st.integers(10 * QUICK_NS, NS_PER_S))
def test_a_preempted_sample_is_not_used(held_up_ns: int) -> None:
    """A program that is held up between the readings does not move the offset."""
    clocks = Clocks()
    wall = clocks.wall_offset()
    before = wall.offset_ns
    clocks.preempted_ns = held_up_ns
    wall.sample()
    assert wall.offset_ns == before
    assert wall.steps == 0


@given(held_up_ns=st.integers(10 * QUICK_NS, NS_PER_S))
def test_a_preempted_first_sample_is_no_step(held_up_ns: int) -> None:
    """A program that is held up in its very first sample has not seen the clock jump."""
    clocks = Clocks(preempted_ns=held_up_ns)
    wall = clocks.wall_offset()
    wall.sample()
    assert abs(wall.offset_ns - BOOTED_NS) <= QUICK_NS
    assert wall.steps == 0


@given(held_up_ns=st.integers(10 * QUICK_NS, 100 * NS_PER_MS))
def test_a_step_seen_by_a_preempted_sample_is_one_step(held_up_ns: int) -> None:
    """A jump that no hold-up can explain is followed at once, and counted once."""
    clocks = Clocks()
    wall = clocks.wall_offset()
    clocks.offset_ns += NS_PER_S
    clocks.preempted_ns = held_up_ns
    wall.sample()
    wall.sample()
    assert abs(wall.offset_ns - clocks.offset_ns) <= QUICK_NS
    assert wall.steps == 1


def test_kernel_stamps_lie_between_sending_and_reading() -> None:
    """A stamp, on the monotonic clock, lies after the sending and before the reading."""
    with stamping() as stamped, socket.create_server(("127.0.0.1", 0)) as server:
        assert stamped
        wall = WallOffset()
        with (
            socket.create_connection(server.getsockname()) as client,
            server.accept()[0] as accepted,
        ):
            stamp_receives(client)
            sent_ns = time.monotonic_ns()
            accepted.send(b"x")
            data, ancillary, _, _ = client.recvmsg(1, ANCILLARY_BYTES)
            read_ns = time.monotonic_ns()
    assert data == b"x"
    arrived_ns = wall_ns(ancillary) - wall.offset_ns
    # The offset is known to within the time that its sample took.
    assert sent_ns - NS_PER_MS < arrived_ns < read_ns + NS_PER_MS


def test_stamping_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no Linux, nothing is stamped."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with stamping() as stamped:
        assert not stamped


def test_stamping_by_a_kernel_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes the option and stamps nothing is found out."""
    monkeypatch.setattr(stamps, "stamp_receives", lambda _: None)
    with stamping() as stamped:
        assert not stamped


def test_stamping_by_a_kernel_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not know the option stamps nothing."""
    monkeypatch.setattr(stamps, "SO_TIMESTAMPNS", 1 << 30)
    with stamping() as stamped:
        assert not stamped
