"""Coordinated omission: a stall that requests wait for before they are sent, and what shows it."""

import io

from rich.console import Console

from llmperf_core.judge import judge, summarize
from llmperf_core.load import ConstantRate
from llmperf_core.show import RunView, StageView, render
from llmperf_core.timeline import Completed, Observation, Timeline, Window
from llmperf_core.units import NS_PER_MS, NS_PER_S

_EACH_NS = 50 * NS_PER_MS
_SERVICE_NS = 20 * NS_PER_MS
_CONNECTIONS = 2


def stalled_until(at_ns: int) -> int:
    """Return when the server goes on: it stalls for 2 s from 15 s of every 30 s on."""
    into_ns = at_ns % (30 * NS_PER_S)
    stalls = 15 * NS_PER_S <= into_ns < 17 * NS_PER_S
    return at_ns - into_ns + 17 * NS_PER_S if stalls else at_ns


def requests(duration_s: int) -> list[Timeline]:
    """Return 20 requests/s, of which no more than two are at the server at once."""
    free = [0] * _CONNECTIONS
    made = []
    for index in range(duration_s * 20):
        due = index * _EACH_NS
        connection = free.index(min(free))
        sent = max(due, free[connection])
        free[connection] = stalled_until(sent) + _SERVICE_NS
        made.append(
            Timeline(
                index=index,
                due_at_ns=due,
                sent_at_ns=sent,
                ended_at_ns=free[connection],
                outcome=Completed(),
            )
        )
    return made


def test_a_stall_shows_from_due_and_not_from_sent() -> None:
    """Forty of 600 requests wait; the two that were sent are all that service time knows of."""
    load = ConstantRate(20)
    observation = Observation(
        window=Window(open_at_ns=0, close_at_ns=300 * NS_PER_S),
        ended_at_ns=301 * NS_PER_S,
        started_at="",
        client_cpu_ns=0,
    )
    summary = summarize(requests(300), observation, load=load)
    e2e, service = summary["e2e"].p99, summary["service_e2e"].p99
    assert e2e is not None
    assert service is not None
    assert 1500 < e2e.value < 2000
    assert service.value == 20
    console = Console(file=io.StringIO(), width=120)
    view = StageView(load, summary, judge(summary, observation))
    with console.capture() as captured:
        render(RunView("a server that stalls", [view]), console)
    rows = {line.split()[0]: line for line in captured.get().splitlines() if line.strip()}
    assert f" {e2e.value:,.0f} " in rows["e2e"]
    assert " 20.0 " in rows["service_e2e"]
    assert f" {e2e.value:,.0f} " not in rows["service_e2e"]
