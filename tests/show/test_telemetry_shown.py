"""What was read of a server and its machine, in the three forms of output."""

import json
from collections.abc import Callable

from attrs import evolve
from rich.console import Console

from llmperf_core.judge import Split, split, watch
from llmperf_core.show import RunView, StageView, render, run_html, stage_document
from llmperf_core.show.telemetry import split_document, watch_lines
from llmperf_core.telemetry import Telemetry
from llmperf_core.units import NS_PER_MS
from tests.judge.test_split import HEADERS
from tests.judge.watched import WINDOW, requests, telemetry

SERVER = telemetry(
    [
        {
            "queued": 3.0,
            "running": 20.0,
            "kv_use": 0.41,
            "ended_tokens": 100.0 * k,
            "requests": 10.0 * k,
            "cached_tokens": 30.0 * k,
            "looked_up_tokens": 120.0 * k,
        }
        for k in range(14)
    ]
)
GPU = telemetry(
    [
        {
            "busy": 0.97,
            "memory_bytes": 21.4e9,
            "power_w": 143.0,
            "temperature_c": 64.0,
            "sm_clock_mhz": 1_410.0,
            "energy_j": 143.0 * k,
        }
        for k in range(14)
    ],
    meter="gpu0",
)
CONTAINER = telemetry(
    [{"cpu_s": 1.5 * k, "memory_bytes": 2e9} for k in range(14)], meter="container"
)
ALL = Telemetry(
    meters={"server": "/metrics of TGI", "gpu0": "NVIDIA A10G", "container": "llama", "lost": "x"},
    samples=(*SERVER.samples, *GPU.samples, *CONTAINER.samples),
    failures={"lost": 4},
)
SEEN = watch(ALL, requests(), WINDOW)


def by_headers() -> Split:
    """Return where the time went by the headers of the answers."""
    found = split(requests(server_ns=HEADERS), WINDOW, None)
    assert found is not None
    return found


def test_a_line_for_each_meter_one_for_the_energy_and_one_for_the_time() -> None:
    """What a reader wants of each, the states as means and the counters as rises."""
    assert watch_lines(SEEN, by_headers()) == [
        (
            "server (/metrics of TGI): 3.00 queued, 20.0 running, KV cache 41.0 %, "
            "1,000 output tokens counted in 10.0 s, prefix cache hits 25.0 %"
        ),
        "gpu0 (NVIDIA A10G): 97.0 % busy, 21.4 GB, 143 W, 64.0 °C, 1,410 MHz",
        "container (llama): 2.00 GB, 1.50 cores busy",
        "lost (x): 4 readings failed",
        "energy of the GPUs: 1.43 J/output token",
        (
            "time of a request (mean, by the server's headers): network and gateway 20.0 ms + "
            "validation 5.00 ms + queue 25.0 ms + inference 450 ms"
        ),
    ]


def test_where_the_server_tells_no_parts_its_time_is_one() -> None:
    """Parts that do not add up to the whole would mislead."""
    whole = evolve(by_headers(), inference_ns=None)

    (line,) = watch_lines(None, whole)
    assert line.endswith("network and gateway 20.0 ms + server 480 ms")


def test_a_meter_without_readings_says_so() -> None:
    """Neither nothing nor zeros."""
    silent = watch(telemetry([], meter="gpu0"), requests(), WINDOW)

    assert watch_lines(silent, None) == ["gpu0 (a server): no readings in the window"]
    assert watch_lines(None, None) == []


def test_the_document_holds_readings_counts_and_parts(stage: Callable[..., StageView]) -> None:
    """Under keys of their own, as plain JSON; null where nothing was read or told."""
    document = stage_document(evolve(stage(), watch=SEEN, split=by_headers()))
    seen, parts = document["telemetry"], document["time_split"]

    assert json.loads(json.dumps(document)) == document
    assert isinstance(seen, dict)
    assert isinstance(parts, dict)
    assert seen["joules_per_output_token"] == 1.43
    assert seen["counted"] == {
        "requests": {"server": 100.0, "client": 100},
        "output_tokens": {"server": 1000.0, "client": 1000.0},
    }
    gpu = seen["meters"]["gpu0"]
    assert gpu["levels"]["busy"] == {"mean": 0.97, "min": 0.97, "max": 0.97}
    assert gpu["rises"] == {"energy_j": 1430.0}
    assert gpu["stretch"] == {"open_s": 2.0, "close_s": 12.0}
    assert seen["meters"]["lost"]["failures"] == 4
    assert (parts["told_by"], parts["network"], parts["inference"]) == ("headers", 20.0, 450.0)
    assert stage_document(stage())["telemetry"] is None
    assert stage_document(stage())["time_split"] is None


def test_terminal_and_notebook_show_the_lines(stage: Callable[..., StageView]) -> None:
    """Below the verdict, in both."""
    view = RunView("http://x", [evolve(stage(), watch=SEEN, split=by_headers())])
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        render(view, console)

    for line in watch_lines(SEEN, by_headers()):
        assert line in captured.get()
        assert line.replace("'", "&#x27;") in run_html(view)


def test_a_split_knows_its_own_difference() -> None:
    """Client − server, whatever the parts are."""
    assert by_headers().network_ns == 20 * NS_PER_MS


def test_a_gateway_is_told_apart_from_the_network() -> None:
    """What SageMaker and its machine tell is said in a line each, and as JSON."""
    gateway = telemetry(
        [
            {
                "requests": 10.0 * k,
                "overhead_s": 0.08 * k,
                "model_s": 4.8 * k,
                "first_chunks": 0.0,
                "first_chunk_s": 0.0,
                "errors_5xx": 1.0 * k,
            }
            for k in range(14)
        ],
        meter="gateway",
    )
    machine = telemetry([{"memory_use": 0.5, "cpu_cores": 2.0}] * 14, meter="host")
    server = telemetry([{"requests": 10.0 * k, "total_s": 4.8 * k} for k in range(14)])
    seen = watch(server.and_later(gateway).and_later(machine), requests(), WINDOW)
    found = split(requests(), WINDOW, seen)

    assert watch_lines(seen, found)[1:] == [
        "gateway (a server): own time 8.00 ms, model 480 ms, 10 answered 5xx",
        "host (a server): 50.0 % of memory, 2.00 cores busy",
        (
            "time of a request (mean, by the server's counters): network 12.0 ms + gateway "
            "8.00 ms + server 480 ms"
        ),
    ]
    parts = split_document(found)
    assert parts is not None
    assert parts["gateway"] == 8.0
