"""Where results come from that another tool measured, and what cannot be known of them."""

from collections.abc import Sequence

from attrs import evolve, field, frozen

from llmperf_core.judge.metrics import METRICS, Metric
from llmperf_core.judge.summary import Summary
from llmperf_core.judge.verdict import Evidence, Reason


def _words(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(words)


@frozen(kw_only=True)
class Source:
    """Another tool's file, and what its format can and cannot say."""

    format: str
    """The importer's name."""
    tool: str
    """Which tool wrote the file, and its version as far as the file says it."""
    file: str
    """The file's name, without its folder."""
    metrics: tuple[str, ...] = field(converter=_words)
    """The metrics of `METRICS` that requests of this format have."""
    cannot: tuple[str, ...] = field(converter=_words)
    """What is not known, so that nothing was checked by it."""
    notes: tuple[str, ...] = field(default=(), converter=_words)
    """What its figures mean where they do not mean what ours do."""
    has_due: bool = False
    """Whether the format holds when requests were due."""

    @property
    def measured(self) -> list[Metric]:
        """The metrics that requests of this format have."""
        return [metric for metric in METRICS if metric.name in self.metrics]

    def limited(self, summary: Summary) -> Summary:
        """Return the summary without what would look measured and is not."""
        summary = evolve(summary, coalesced_share=None)
        return summary if self.has_due else evolve(summary, asked=None, offered=None)

    def check(self, _evidence: Evidence) -> Reason:
        """Say that it was imported, and what that leaves open."""
        detail = f"imported from {self.tool} ({self.file}), which cannot say: "
        return Reason("imported", "; ".join([detail + ", ".join(self.cannot), *self.notes]))
