"""What can be drawn of a stage, of a run, and of a comparison. Altair is imported by what draws."""

from collections.abc import Sequence
from functools import partial

from attrs import frozen

from llmperf_core.decide import Recommended
from llmperf_core.errors import UsageError
from llmperf_core.judge import Slo
from llmperf_core.show.comparison import ComparisonView
from llmperf_core.show.plots.plot import Plot, need_altair
from llmperf_core.show.plots.subject import Subject, said, statuses, thinned
from llmperf_core.show.view import measured, named

_USUAL = ("ttft", "itl", "e2e")
_MOST_LINES = 6


@frozen
class StagePlots:
    """The plots of one stage: `stage.plots.over_time()`.

    Each raises `MissingExtraError` where the extra `plots` is not installed.
    """

    _subject: Subject

    def percentiles(self, *metrics: str) -> Plot:
        """Return latency by percentile: TTFT, ITL and E2E, or other metrics.

        Raises:
            UsageError: the stage has no values of a metric.
        """
        need_altair()
        from llmperf_core.show.plots.percentiles import curve_of, in_words, percentiles

        wanted = metrics or [name for name in _USUAL if self._subject.has(name)]
        curves = [curve_of(self._having(name), name, named(name)) for name in wanted]
        if not curves:
            curves = [
                curve_of(self._subject, m.metric.name, named(m.metric.name))
                for m in measured(self._subject.view.summary)[:_MOST_LINES]
            ]
        heading = "Latency by percentile"
        return Plot(
            title=_title(heading, self._subject),
            alt=in_words(curves),
            draw=partial(percentiles, curves, heading, self._subject.caption, logarithmic=True),
        )

    def distribution(self, metric: str = "ttft") -> Plot:
        """Return how the values of a metric are spread.

        Raises:
            UsageError: the stage has no values of it, or only figures of it are known.
        """
        need_altair()
        from llmperf_core.show.plots.distribution import distribution, in_words

        subject = self._with_requests(metric)
        return Plot(
            title=_title(f"Distribution of {named(metric)}", subject),
            alt=in_words(subject, metric),
            draw=partial(distribution, subject, metric),
        )

    def over_time(self, *, telemetry: bool | None = None) -> Plot:
        """Return arrivals, requests in flight and tokens per second, with the window marked.

        Args:
            telemetry: what the server and its machine showed under the same axis; None where
                there is any.

        Raises:
            UsageError: only figures are known of the stage.
        """
        need_altair()
        from llmperf_core.show.plots.over_time import in_words, over_time

        subject = self._with_requests()
        shown = subject.telemetry is not None if telemetry is None else telemetry
        return Plot(
            title=_title("The stage over time", subject),
            alt=in_words(subject, telemetry=shown),
            draw=partial(over_time, subject, telemetry=shown),
        )

    def waterfall(self, *, count: int = 10) -> Plot:
        """Return single requests token by token, from the quickest to the slowest.

        Raises:
            UsageError: only figures are known of the stage.
        """
        need_altair()
        from llmperf_core.show.plots.waterfall import chosen, in_words, waterfall

        subject = self._with_requests()
        requests = chosen(subject, count)
        return Plot(
            title=_title("Single requests, token by token", subject),
            alt=in_words(requests),
            draw=partial(waterfall, subject, requests),
        )

    def _having(self, metric: str) -> Subject:
        if not self._subject.has(metric):
            names = ", ".join(m.metric.name for m in measured(self._subject.view.summary))
            raise UsageError(f"the stage has no values of {metric!r}; there are {names or 'none'}")
        return self._subject

    def _with_requests(self, metric: str | None = None) -> Subject:
        if not len(self._subject.timelines):
            raise UsageError("only figures are known of this stage, and no requests to draw")
        return self._subject if metric is None else self._having(metric)


@frozen
class RunPlots:
    """The plots of several stages: `run.plots.throughput()`.

    Each raises `MissingExtraError` where the extra `plots` is not installed.
    """

    _subjects: Sequence[Subject]
    _slo: Slo | None = None

    def throughput(self, metric: str | None = None) -> Plot:
        """Return latency against throughput, a point for each load.

        Args:
            metric: what is meant by latency; None takes TTFT, or the first that all stages have of
                E2E and time per token.

        Raises:
            UsageError: the stages have no such metric in common, or no throughput.
        """
        need_altair()
        from llmperf_core.show.plots.throughput import in_words, metric_of, points_of, throughput

        name = metric or metric_of(self._subjects)
        if name is None or not all(subject.has(name) for subject in self._subjects):
            raise UsageError(f"not all stages have values of {name or 'the same metric'}")
        points = points_of(self._subjects, name)
        if not points:
            raise UsageError("no stage has both a throughput and enough values to draw")
        return Plot(
            title=f"{name} against throughput, {statuses(self._subjects)}",
            alt=in_words(points, self._slo, self._subjects[0][name]),
            draw=partial(throughput, self._subjects, points, name, self._slo),
        )

    def percentiles(self, metric: str = "ttft") -> Plot:
        """Return a metric by percentile, a line for each load; of many loads, six.

        Raises:
            UsageError: no stage has values of it.
        """
        need_altair()
        from llmperf_core.show.plots.percentiles import curve_of, in_words, percentiles

        having = [subject for subject in self._subjects if subject.has(metric)]
        if not having:
            raise UsageError(f"no stage has values of {metric!r}")
        drawn = thinned(having, _MOST_LINES)
        curves = [curve_of(subject, metric, subject.load) for subject in drawn]
        heading = f"{named(metric)} by percentile, under each load"
        caption = [
            having[0].target,
            said(statuses(drawn), simulated=any(subject.simulated for subject in drawn)),
        ]
        return Plot(
            title=heading,
            alt=in_words(curves),
            draw=partial(percentiles, curves, heading, caption, logarithmic=False),
        )


@frozen
class ComparisonPlots:
    """The plots of a comparison: `comparison.plots.changes()`."""

    _view: ComparisonView

    def changes(self) -> Plot:
        """Return every change with its interval, against the margin.

        Raises:
            MissingExtraError: the extra `plots` is not installed.
            UsageError: no change is known.
        """
        need_altair()
        from llmperf_core.show.plots.changes import changes, in_words, rows_of

        if not rows_of(self._view):
            raise UsageError("no figure of this comparison has a known change to draw")
        return Plot(
            title=f"{self._view.candidate} against {self._view.baseline}",
            alt=in_words(self._view),
            draw=partial(changes, self._view),
        )


@frozen
class RecommendationPlots:
    """The plots of a recommendation: `recommendation.plots.cost()`."""

    _found: Recommended

    def cost(self) -> Plot:
        """Return cost against latency, with what nothing else beats in both.

        Raises:
            MissingExtraError: the extra `plots` is not installed.
            UsageError: it was not asked for both, or no price is known.
        """
        need_altair()
        from llmperf_core.show.plots.cost import cost, in_words, points_of

        points = points_of(self._found)
        if not points:
            raise UsageError("nothing is ranked by both cost and latency: are there prices?")
        figure = self._found["latency"].rule.figure
        return Plot(
            title="Cost against latency",
            alt=in_words(points, figure),
            draw=partial(cost, points, figure),
        )


def _title(what: str, subject: Subject) -> str:
    whose = f"{subject.target}, {subject.load}"
    return f"{what}: {said(subject.view.verdict.status, whose, simulated=subject.simulated)}"
