"""Where the time of a request went."""

from attrs import evolve

from llmperf_core.judge import split, watch
from llmperf_core.units import NS_PER_MS
from tests.judge.watched import WINDOW, failed, requests, telemetry

HEADERS = {
    "total": 480 * NS_PER_MS,
    "validation": 5 * NS_PER_MS,
    "queue": 25 * NS_PER_MS,
    "inference": 450 * NS_PER_MS,
}
COUNTERS = {"requests": 10.0, "total_s": 4.8, "validation_s": 0.05, "queue_s": 0.25}


def counters(**more: float) -> "list[dict[str, float]]":
    """Return 14 readings a second apart of counters that rise by so much a second."""
    return [{word: k * rise for word, rise in {**COUNTERS, **more}.items()} for k in range(14)]


def test_headers_tell_every_part() -> None:
    """Of half a second the server says it had 480 ms: 20 ms are those of the network."""
    found = split(requests(server_ns=HEADERS), WINDOW, None)

    assert found is not None
    assert (found.told_by, found.requests) == ("headers", 100)
    assert found.client_ns == 500 * NS_PER_MS
    assert found.network_ns == 20 * NS_PER_MS
    assert found.validation_ns == 5 * NS_PER_MS
    assert found.queue_ns == 25 * NS_PER_MS
    assert found.inference_ns == 450 * NS_PER_MS


def test_a_part_that_some_answers_leave_out_is_not_known() -> None:
    """A mean over some requests would not add up with the others."""
    told = requests(server_ns=HEADERS)
    told[50] = evolve(told[50], server_ns={"total": 480 * NS_PER_MS})
    found = split(told, WINDOW, None)

    assert found is not None
    assert found.server_ns == 480 * NS_PER_MS
    assert found.queue_ns is None


def test_requests_that_do_not_count_tell_nothing() -> None:
    """Neither those outside the window, nor those that failed, nor those without the header."""
    outside = [t for t in requests(server_ns=HEADERS) if (t.sent_at_ns or 0) not in WINDOW]

    assert split([*outside, failed(WINDOW.open_at_ns)], WINDOW, None) is None
    assert split(requests(server_ns={"queue": 1}), WINDOW, None) is None


def test_counters_tell_means_where_headers_do_not() -> None:
    """Of a stream there are no headers; the sums of the server over the window are divided."""
    seen = watch(telemetry(counters(inference_s=4.5)), requests(), WINDOW)
    found = split(requests(), WINDOW, seen)

    assert found is not None
    assert (found.told_by, found.requests) == ("counters", 100)
    assert found.client_ns == 500 * NS_PER_MS
    assert round(found.network_ns) == 20 * NS_PER_MS
    assert round(found.queue_ns or 0) == 25 * NS_PER_MS
    assert round(found.inference_ns or 0) == 450 * NS_PER_MS


def test_a_part_that_the_server_does_not_count_is_not_known() -> None:
    """SGLang has no sum of its inference."""
    found = split(requests(), WINDOW, watch(telemetry(counters()), requests(), WINDOW))

    assert found is not None
    assert found.inference_ns is None


def test_counters_of_others_or_of_failures_tell_nothing() -> None:
    """What the server had to do for others, or for requests that failed, is not ours."""
    others = watch(telemetry(counters(requests=30.0)), requests(), WINDOW)
    failures = watch(telemetry(counters()), [*requests(), failed(WINDOW.open_at_ns)], WINDOW)
    silent = watch(telemetry([{"queued": 1.0}] * 14), requests(), WINDOW)
    unread = watch(telemetry([]), requests(), WINDOW)
    no_server = watch(telemetry([{"busy": 1.0}] * 14, meter="gpu0"), requests(), WINDOW)

    for seen in (others, failures, silent, unread, no_server):
        assert split(requests(), WINDOW, seen) is None


def test_a_gateway_that_tells_its_own_time_is_no_part_of_the_network() -> None:
    """Of half a second, 480 ms are the server's, 8 ms the gateway's, and 12 ms the network's."""
    sums = [{"requests": 10.0 * k, "overhead_s": 0.08 * k} for k in range(14)]
    both = telemetry(counters()).and_later(telemetry(sums, meter="gateway"))
    found = split(requests(), WINDOW, watch(both, requests(), WINDOW))

    assert found is not None
    assert round(found.gateway_ns or 0) == 8 * NS_PER_MS
    assert round(found.network_ns) == 12 * NS_PER_MS


def test_a_gateway_without_requests_or_times_tells_nothing() -> None:
    """It is in the network's part then."""
    for silent in ({"requests": 0.0, "overhead_s": 0.0}, {"requests": 5.0}):
        sums = [{word: k * n for word, n in silent.items()} for k in range(14)]
        both = telemetry(counters()).and_later(telemetry(sums, meter="gateway"))
        found = split(requests(), WINDOW, watch(both, requests(), WINDOW))

        assert found is not None
        assert found.gateway_ns is None
        assert round(found.network_ns) == 20 * NS_PER_MS
