"""What readings come to over the window, and what they make of a stage."""

import pytest

from llmperf_core.judge import watch
from llmperf_core.judge.crosscheck import CrossCheck
from llmperf_core.telemetry import Sample, Telemetry
from llmperf_core.units import NS_PER_S
from tests.judge.watched import WINDOW, counted, failed, reasons, requests, telemetry


def crosscheck(found: Telemetry) -> CrossCheck:
    """Return a server's counts beside those of the usual requests."""
    check = watch(found, requests(), WINDOW).crosscheck
    assert check is not None
    return check


def test_states_are_of_the_window_alone() -> None:
    """The readings of warm-up and drain are in no mean, least or greatest."""
    readings = [{"queued": 90.0}] * 2 + [{"queued": q} for q in (1.0, 2.0, 6.0)] + [{}] * 7
    found = watch(telemetry([*readings, {"queued": 80.0}]), requests(), WINDOW)["server"]

    assert found.readings == 10
    level = found.levels["queued"]
    assert (level.mean, level.min, level.max) == (3.0, 1.0, 6.0)


def test_counters_rise_between_the_readings_nearest_to_the_edges() -> None:
    """Readings a little off the edges are taken, and the stretch between them is told."""
    readings = telemetry([{"output_tokens": 7.0 * k} for k in range(14)], first_s=0.1)
    found = watch(readings, requests(), WINDOW)["server"]

    assert found.rises == {"output_tokens": 70.0}
    assert found.stretch is not None
    assert (found.stretch.open_at_ns, found.stretch.close_at_ns) == (2_100_000_000, 12_100_000_000)


def test_a_counter_that_appears_late_rose_from_nothing() -> None:
    """TGI shows a counter only once there is something to count."""
    found = watch(telemetry([{}] * 6 + [{"requests": 5.0}] * 8), requests(), WINDOW)["server"]

    assert found.rises == {"requests": 5.0}


def test_a_counter_that_fell_is_left_out() -> None:
    """A server that was started anew counts from 0: how much it rose is not known."""
    readings = [{"requests": 50.0, "input_tokens": 1.0}] * 8 + [{"requests": 3.0}] * 6
    found = watch(telemetry(readings), requests(), WINDOW)["server"]

    assert found.rises == {}


@pytest.mark.parametrize("readings", [0, 1])
def test_without_two_readings_nothing_rose(readings: int) -> None:
    """A meter that could not be read twice tells no rise, and nothing is held against ours."""
    found = watch(telemetry([{"requests": 1.0}] * readings, first_s=5), requests(), WINDOW)

    assert found["server"].stretch is None
    assert found["server"].rises == {}
    assert found.crosscheck is None


@pytest.mark.parametrize("at_s", [(-10, 50), (-100, -40, 20), (3, 4), (-60, 9), (9, 60)])
def test_a_meter_that_is_seldom_read_tells_of_the_stretch_around_the_window(
    at_s: tuple[int, ...],
) -> None:
    """Where one reading is the nearest to both edges, another beside it is taken, too."""
    samples = [
        Sample(at_ns=at * NS_PER_S, meter="gateway", values={"requests": float(at)}) for at in at_s
    ]
    seen = watch(Telemetry(meters={"gateway": "g"}, samples=tuple(samples)), requests(), WINDOW)

    stretch = seen["gateway"].stretch
    assert stretch is not None
    assert stretch.open_at_ns == at_s[-2] * NS_PER_S
    assert stretch.close_at_ns == at_s[-1] * NS_PER_S
    assert seen["gateway"].rises == {"requests": at_s[-1] - at_s[-2]}


@pytest.mark.parametrize("word", ["ended_tokens", "output_tokens"])
def test_equal_counts_agree(word: str) -> None:
    """Whether a server counts tokens as they come or when requests end, ours are counted so."""
    check = crosscheck(counted(word))

    assert (check.tokens, check.our_tokens) == (1_000, 1_000)
    assert (check.requests, check.our_requests) == (100, 100)
    assert not check.mismatch
    assert reasons(counted(word), requests()) == {}


@pytest.mark.parametrize("per_s", [70.0, 140.0])
def test_a_server_that_counts_other_tokens_is_told(per_s: float) -> None:
    """More or fewer than arrived, by more than edges, ends of sequences and 2 % explain."""
    reason = reasons(counted("output_tokens", per_s=per_s), requests())["token_counter_mismatch"]

    assert reason.status == "suspect"
    assert f"the server counted {10 * per_s:,.0f} output tokens while 1,000" in reason.detail
    assert "other clients" not in reason.detail


def test_one_token_a_request_is_no_mismatch() -> None:
    """Some servers count the end-of-sequence token that they do not send."""
    assert not crosscheck(counted("ended_tokens", per_s=110)).mismatch


def test_without_a_counter_of_requests_others_may_be_the_reason() -> None:
    """Where the server does not count requests, the detail leaves that open."""
    found = counted("ended_tokens", per_s=200, requests_per_s=None)

    assert "or other clients use it" in reasons(found, requests())["token_counter_mismatch"].detail


def test_requests_of_others_are_told_and_excuse_the_tokens() -> None:
    """More requests than ours mean other clients: that is the reason, not the tokens' count."""
    found = reasons(counted("ended_tokens", per_s=200, requests_per_s=20), requests())

    assert list(found) == ["other_clients"]
    assert "answered 200 requests while 100 of ours ended" in found["other_clients"].detail
    assert found["other_clients"].status == "suspect"


def test_with_failures_tokens_are_not_compared() -> None:
    """What a server counts of a request that failed differs; the errors are a reason already."""
    found = counted("ended_tokens", per_s=140)

    assert reasons(found, [*requests(), failed(5 * NS_PER_S)]) == {}


def test_a_server_that_counts_nothing_is_not_held_against_us() -> None:
    """A page with states alone has no counts to compare."""
    check = crosscheck(telemetry([{"queued": 0.0}] * 14))

    assert (check.tokens, check.requests) == (None, None)
    assert not check.mismatch
    assert not check.others


def gpu(**values: float) -> Telemetry:
    """Return readings of a GPU that stay the same, but for its energy, 100 J a second."""
    return telemetry([{"energy_j": 100.0 * k, **values} for k in range(14)], meter="gpu0")


@pytest.mark.parametrize(
    ("word", "status", "said"),
    [
        ("slowed_by_heat", "suspect", "gpu0 was slowed by heat in 100 % of the readings"),
        ("slowed_by_hardware", "suspect", "its hardware's protection"),
        ("slowed_by_power", "valid", "its power limit"),
    ],
)
def test_a_gpu_whose_clocks_were_held_down_is_told(word: str, status: str, said: str) -> None:
    """Heat differs from run to run and makes a stage suspect; a power limit is always there."""
    reason = reasons(gpu(**{word: 1.0}), requests())["throttled"]

    assert reason.status == status
    assert said in reason.detail


def test_a_gpu_at_its_clocks_is_no_reason() -> None:
    """Neither flags that are 0 nor a GPU that tells none."""
    assert reasons(gpu(slowed_by_heat=0.0), requests()) == {}
    assert reasons(gpu(), requests()) == {}


def test_energy_of_a_token_is_by_the_counter() -> None:
    """1,000 J over the window in which 1,000 tokens arrived; the power is not asked."""
    assert watch(gpu(power_w=7.0), requests(), WINDOW).joules_per_token == pytest.approx(1.0)


def test_energy_of_a_token_is_by_power_where_there_is_no_counter() -> None:
    """200 W for ten seconds, in which 1,000 tokens arrived."""
    found = telemetry([{"power_w": 200.0}] * 14, meter="gpu0")

    assert watch(found, requests(), WINDOW).joules_per_token == pytest.approx(2.0)


def test_energy_of_several_gpus_adds_up() -> None:
    """Each token costs what all of them used; a server's own counters have no part in it."""
    both = Telemetry(
        meters={"gpu0": "a", "gpu1": "b", "server": "c"},
        samples=(
            *telemetry([{"power_w": 200.0}] * 14, meter="gpu0").samples,
            *telemetry([{"power_w": 100.0}] * 14, meter="gpu1").samples,
        ),
    )
    assert watch(both, requests(), WINDOW).joules_per_token == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("found", "count"),
    [
        (telemetry([{"busy": 1.0}] * 14, meter="gpu0"), 130),
        (telemetry([{"power_w": 1.0}], meter="gpu0", first_s=5), 130),
        (telemetry([{"power_w": 1.0}] * 14, meter="gpu0"), 0),
    ],
)
def test_energy_is_not_known_without_power_time_or_tokens(found: Telemetry, count: int) -> None:
    """Nothing is divided by nothing."""
    assert watch(found, requests(count), WINDOW).joules_per_token is None


def test_what_was_learned_later_replaces_meters_of_the_same_name() -> None:
    """The others stay, and all readings stand in the order of time."""
    first = Telemetry(
        meters={"gpu0": "A10G", "server": "a page"},
        samples=(
            Sample(at_ns=1, meter="server", values={"queued": 1.0}),
            Sample(at_ns=3, meter="gpu0", values={"busy": 1.0}),
        ),
        failures={"server": 2, "gpu0": 1},
    )
    log = Sample(at_ns=2, meter="server", values={"requests": 1.0})
    both = first.and_later(Telemetry(meters={"server": "a log"}, samples=(log,)))

    assert both.meters == {"gpu0": "A10G", "server": "a log"}
    assert both.samples == (log, first.samples[1])
    assert both.failures == {"gpu0": 1}
