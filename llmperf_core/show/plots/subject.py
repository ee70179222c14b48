"""What is drawn: a measured stage, whole."""

from collections.abc import Sequence
from typing import TypeVar

from attrs import frozen

from llmperf_core.judge import MetricSummary
from llmperf_core.load import load_label
from llmperf_core.show.view import StageView, measured
from llmperf_core.telemetry import Telemetry
from llmperf_core.timeline import Observation, Timeline

Item = TypeVar("Item")


@frozen(kw_only=True, eq=False)
class Subject:
    """A stage with its requests, and with what every picture of it has to say."""

    target: str
    simulated: bool
    view: StageView
    observation: Observation
    timelines: Sequence[Timeline] = ()
    """Gone through once for each picture; none where only figures are known."""
    telemetry: Telemetry | None = None

    @property
    def load(self) -> str:
        """The load in words."""
        return load_label(self.view.load)

    @property
    def caption(self) -> list[str]:
        """What stands under the title: whose numbers these are, and what they are worth."""
        return [self.target, said(self.view.verdict.status, self.load, simulated=self.simulated)]

    def has(self, name: str) -> bool:
        """Return whether there are values of this metric."""
        return any(metric.metric.name == name for metric in measured(self.view.summary))

    def __getitem__(self, name: str) -> MetricSummary:
        return self.view.summary[name]


def said(*parts: str, simulated: bool) -> str:
    """Return a caption: what matters most comes first, as the end of a long one is cut off."""
    return " · ".join([*(["SIMULATED"] if simulated else []), *parts])


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """Return so many of them at even distances, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def statuses(subjects: Sequence[Subject]) -> str:
    """Return the verdicts of several stages in a few words: `3 valid, 1 suspect`."""
    found = [subject.view.verdict.status for subject in subjects]
    counted = {status: found.count(status) for status in ("valid", "suspect", "invalid")}
    if len(found) == 1:
        return found[0]
    if len(set(found)) == 1:
        return f"all {found[0]}"
    return ", ".join(f"{count} {status}" for status, count in counted.items() if count)
