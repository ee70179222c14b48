"""What a report says in sentences: the answer, and what speaks against it."""

from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from llmperf_core.judge import Quantity
from llmperf_core.load import load_label
from llmperf_core.report.view import ReportView, RunReport, StageReport
from llmperf_core.show.comparison import figure_label
from llmperf_core.show.recommendation import answers as rule_answers
from llmperf_core.show.view import Column, interval, measured, named, number

_LATENCIES = ("ttft", "e2e", "time_per_token")
_MOST_CHANGES = 6


@frozen(kw_only=True)
class Overview:
    """A run in a row."""

    target: str
    verdicts: str
    throughput: str
    latency: str


OVERVIEW_COLUMNS: tuple[Column[Overview], ...] = (
    Column("target", lambda row: row.target, 0, numeric=False),
    Column("verdicts", lambda row: row.verdicts, 0, numeric=False),
    Column("most throughput", lambda row: row.throughput, 0, numeric=False),
    Column("lowest TTFT, E2E or\ntime per token (p50)", lambda row: row.latency, 0, numeric=False),
)


def verdicts(view: ReportView) -> str:
    """Return in a line how far the numbers can be trusted."""
    return _verdicts([stage.view.verdict.status for _, stage in view.stages])


def _verdicts(found: Sequence[str]) -> str:
    counts = [
        f"{found.count(status)} {status}"
        for status in ("valid", "suspect", "invalid")
        if status in found
    ]
    stages = "1 stage" if len(found) == 1 else f"{len(found)} stages"
    return f"{stages}: {', '.join(counts)}" if found else "no stages"


def answers(view: ReportView) -> list[str]:
    """Return what the numbers say, a sentence each. No stage that is invalid has a part in it."""
    sentences = [*_recommended(view), *_compared(view)]
    usable = [pair for pair in view.stages if pair[1].view.verdict.status != "invalid"]
    if not usable:
        return [*sentences, "No stage is good enough to say anything: see the reasons below."]
    most = _best(usable, _throughput, highest=True)
    if most is not None:
        sentences.append(f"Most throughput: {most}.")
    for name in _LATENCIES:
        least = _best(usable, _p50(name), highest=False)
        if least is not None:
            sentences.append(f"Lowest {named(name)} (p50): {least}.")
            break
    kept = _best(usable, lambda stage: stage.view.summary.goodput, highest=True)
    if kept is not None:
        sentences.append(f"Most goodput, within the limits: {kept}.")
    return sentences


def _recommended(view: ReportView) -> Iterator[str]:
    if view.recommendation is not None:
        yield from (
            f"{one.title}: {one.answer}." for one in rule_answers(view.recommendation.found)
        )


def _compared(view: ReportView) -> Iterator[str]:
    if view.comparison is None:
        return
    against = f"{view.comparison.candidate} against {view.comparison.baseline}"
    yield f"{against}: {'nothing is proven worse' if view.passes else 'the gate is not passed'}."
    for outcome in ("worse", "better"):
        found = [
            f"{figure_label(change.figure)} {100 * change.effect:+.3g} % ({pair.load})"
            for pair in view.comparison.pairs
            for change in pair.changes
            if change.outcome == outcome and change.effect is not None
        ]
        if found:
            more = f" and {len(found) - _MOST_CHANGES} more" if len(found) > _MOST_CHANGES else ""
            yield f"{outcome.capitalize()}: {', '.join(found[:_MOST_CHANGES])}{more}."


def _throughput(stage: StageReport) -> Quantity | None:
    summary = stage.view.summary
    return summary.output_tokens_per_s or summary.requests_per_s


def _p50(name: str) -> Callable[[StageReport], Quantity | None]:
    def of(stage: StageReport) -> Quantity | None:
        metric = stage.view.summary.metrics.get(name)
        return None if metric is None else metric.p50

    return of


def _best(
    stages: Sequence[tuple[RunReport, StageReport]],
    of: Callable[[StageReport], Quantity | None],
    *,
    highest: bool,
) -> str | None:
    """Return the best of a figure in words: with its interval, target, load and verdict."""
    found = [(value, run, stage) for run, stage in stages if (value := of(stage)) is not None]
    if not found:
        return None
    value, run, stage = (max if highest else min)(found, key=lambda one: one[0].value)
    bounds = f" {interval(value)}" if value.ci95 else ""
    whose = f"{run.view.target}, " if len({run.view.target for run, _ in stages}) > 1 else ""
    status = stage.view.verdict.status
    doubt = "" if status == "valid" else f" ({status})"
    return f"{number(value)} {value.unit}{bounds} at {whose}{load_label(stage.view.load)}{doubt}"


def reasons(run: RunReport) -> list[str]:
    """Return what speaks against the stages of a run: each reason once, with the loads it is of."""
    loads: dict[tuple[str, str], list[str]] = {}
    for stage in run.view.stages:
        for reason in stage.verdict.reasons:
            loads.setdefault((reason.code, reason.detail), []).append(load_label(stage.load))
    return [f"{code} ({', '.join(of)}): {detail}" for (code, detail), of in loads.items()]


def measured_words(view: ReportView) -> dict[str, str]:
    """Return what is meant by each metric that there are values of."""
    return {
        metric.metric.name: metric.metric.description
        for _, stage in view.stages
        for metric in measured(stage.view.summary)
    }


def overview(view: ReportView) -> list[Overview]:
    """Return the best of each run, if there are several; no invalid stage has a part in it."""
    return [_overview(run) for run in view.runs] if len(view.runs) > 1 else []


def _overview(run: RunReport) -> Overview:
    usable = [(run, stage) for stage in run.stages if stage.view.verdict.status != "invalid"]
    least = (_best(usable, _p50(name), highest=False) for name in _LATENCIES)
    return Overview(
        target=run.view.target + (" · SIMULATED" if run.view.simulated else ""),
        verdicts=_verdicts([stage.view.verdict.status for stage in run.stages]),
        throughput=_best(usable, _throughput, highest=True) or "–",
        latency=next((found for found in least if found), "–"),
    )
