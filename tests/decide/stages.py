"""Stages made by hand, and plans that are answered with them."""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import numpy as np
from attrs import frozen

from llmperf_core.decide import Step
from llmperf_core.judge import Summary, Verdict, summarize
from llmperf_core.timeline import Completed, Observation, Timeline, Window
from llmperf_core.units import NS_PER_MS, ns_from_s

T = TypeVar("T")


@frozen
class Stage:
    """What a plan is sent."""

    timelines: Sequence[Timeline]
    summary: Summary
    verdict: Verdict


def length_s(step: Step) -> float:
    """Return how long a step is to be measured."""
    assert step.duration_s is not None
    return step.duration_s


def stage(ttft_ms: Sequence[float], step: Step) -> Stage:
    """Return a stage of requests with these times to the first token, evenly spread over it."""
    close_at_ns = ns_from_s(length_s(step))
    sent_at_ns = np.linspace(0, close_at_ns - 1, len(ttft_ms)).astype(int)
    timelines = [
        Timeline(
            index=index,
            due_at_ns=None,
            sent_at_ns=int(at_ns),
            token_at_ns=[int(at_ns) + round(ms * NS_PER_MS)],
            ended_at_ns=int(at_ns) + round(ms * NS_PER_MS),
            outcome=Completed("length"),
        )
        for index, (at_ns, ms) in enumerate(zip(sent_at_ns, ttft_ms, strict=True))
    ]
    window = Window(open_at_ns=0, close_at_ns=close_at_ns)
    seen = Observation(window=window, ended_at_ns=close_at_ns, started_at="", client_cpu_ns=0)
    # A plan takes requests in the order of ending, as they come.
    return judged(timelines[::-1], seen, step)


def judged(
    timelines: Sequence[Timeline],
    seen: Observation,
    step: Step,
) -> Stage:
    """Return the stage as it is handed to a plan."""
    summary = summarize(timelines, seen, load=step.load, detect_warmup=False)
    return Stage(timelines, summary, Verdict("valid"))


def follow(
    plan: Generator[Step, Stage, T], answer: Callable[[Step], Stage]
) -> tuple[T, list[Step]]:
    """Answer each step of a plan; return what it found, and its steps."""
    steps = [next(plan)]
    while True:
        try:
            steps.append(plan.send(answer(steps[-1])))
        except StopIteration as end:
            return end.value, steps
