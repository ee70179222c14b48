"""The published Llama 2 study recomputed from its own results: what agrees, what does not, and why.

Its nine recommended rows stand beside what its CSV says, and each pick is held against the rule
that the page states for it. Its tokens per second are 50 × virtual users ÷ mean total time, a
formula; they are used here, as the page does, and the requests that were counted beside them.

    python examples/published_study/recompute.py

Source: "Llama 2 on Amazon SageMaker a Benchmark", three tables and a conclusion; the prices are
those that its costs are made of, which its tables round.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
from attrs import evolve, field, frozen
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import llmperf_core as lp
from llmperf_core.decide import (
    MILLION_OUTPUT,
    Candidate,
    Cost,
    Pick,
    Ranked,
    Recommended,
    cost_of,
    recommend,
)
from llmperf_core.decide.needs import RuleName
from llmperf_core.judge import Estimate, Quantity
from llmperf_core.judge.estimate import RATES
from llmperf_core.results import StageResult

HERE = Path(__file__).parent
RAW, TABLES = HERE / "llama2_sagemaker_tgi_1_0_3.csv", HERE / "published_tables.csv"
TOKENS_A_REQUEST = 50
"""What the study asked for. Requests did end early, and nobody counted."""
DECIMALS = 4
"""To which figures are compared: the page prints up to eight, an imported time has nanoseconds."""
SIZES = {"7B": "-7b", "13B": "-13b", "70B": "-70b"}
AT_LOAD: Mapping[RuleName, float] = {"cost": 5, "throughput": 20, "latency": 1}
"""Virtual users, as the page says for each of its rules."""
NOT_LATENCY = ("cost", "throughput")
_PAGE = "the study's tables, us-west-2, which round it to the cent"
_LISTED = "SageMaker hosting on demand, us-west-2; the study's page does not name it"
PRICES = {
    f"*@{instance}*": lp.Price(usd_per_h=usd_per_h, as_of="2023-09-26", source=source)
    for instance, usd_per_h, source in (
        ("ml.g5.2xlarge", 1.515, _PAGE),
        ("ml.g5.12xlarge", 7.09, _PAGE),
        ("ml.g5.48xlarge", 20.36, _LISTED),
        ("ml.p4d.24xlarge", 37.688, _PAGE),
    )
}
P4D_TODAY = lp.Price(
    usd_per_h=25.251, as_of="2026-07-27", source="AWS Price List, SageMaker hosting, us-east-1"
)
TODAY = {**PRICES, "*@ml.p4d.24xlarge*": P4D_TODAY}


@frozen(kw_only=True)
class Published:
    """A row of one of the page's tables, as it is printed there."""

    rule: str
    size: str
    quantization: str
    instance: str
    users: int
    ms_per_token: str
    tokens_per_s: str
    usd_per_h: str
    minutes: str
    usd: str

    @property
    def target(self) -> str:
        """What tells it from others of its size: `gptq ml.g5.2xlarge`."""
        return f"{self.quantization.replace('none', 'fp16')} {self.instance}"


@frozen(kw_only=True)
class Disagreement:
    """A figure of the page that its own results do not give."""

    where: str
    published: str
    ours: str
    cause: str


@frozen(kw_only=True)
class Recomputed:
    """A row of the page beside ours."""

    published: Published
    ms_per_token: float
    tokens_per_s: float
    cost: Cost
    disagreements: Sequence[Disagreement]


@frozen(kw_only=True)
class Checked:
    """A pick of the page held against its own rule."""

    published: Published
    agrees: bool
    first: str
    """The best by the rule, with its load and its value."""
    next: str
    """The best of the other deployments."""
    note: str


@cache
def study() -> Sequence[lp.Run]:
    """Return the 15 deployments of the CSV."""
    return lp.import_results("published-study", RAW)


@cache
def stages() -> Mapping[tuple[str, str, str, int], StageResult]:
    """Return the stages of the CSV by size, quantization, instance and virtual users."""
    found = {}
    for run in study():
        size = next(size for size, name in SIZES.items() if name in run.spec.target.lower())
        server = run.spec.endpoint["server"]
        assert isinstance(server, Mapping)
        for stage in run.stages:
            deployed = str(server["quantization"]), str(server["instance"])
            key = (size, *deployed, int(stage.load.value))
            found[key] = stage
    return found


def by_formula(stage: StageResult) -> float:
    """Return the tokens per second as the study computed them."""
    mean = stage["server_total"].mean
    assert mean is not None
    return TOKENS_A_REQUEST * stage.load.value / (mean.value / 1e3)


def by_requests(stage: StageResult) -> float:
    """Return the tokens per second if each counted request had all its tokens."""
    rate = stage.summary.requests_per_s
    assert rate is not None
    return TOKENS_A_REQUEST * rate.value


def published() -> list[Published]:
    """Return the nine rows of the page's tables."""
    with TABLES.open(encoding="utf-8", newline="") as file:
        return msgspec.convert(list(csv.DictReader(file)), list[Published], strict=False)


def recomputed(row: Published) -> Recomputed:
    """Return a row of the page beside what the CSV says."""
    stage = stages()[row.size, row.quantization, row.instance, row.users]
    median = stage["time_per_token"].p50
    assert median is not None
    rate = by_formula(stage)
    cost = cost_of(MILLION_OUTPUT, Quantity(rate, "tok/s"), PRICES[f"*@{row.instance}*"])
    ours = {
        "ms_per_token": median.value,
        "tokens_per_s": rate,
        "minutes": cost.minutes.value,
        "usd": cost.usd.value,
    }
    return Recomputed(
        published=row,
        ms_per_token=median.value,
        tokens_per_s=rate,
        cost=cost,
        disagreements=[
            Disagreement(
                where=f"{row.rule}, {row.size} {row.instance}, {name}",
                published=getattr(row, name),
                ours=as_printed(value, getattr(row, name)),
                cause=_cause(name, getattr(row, name), median.value, cost.price.usd_per_h),
            )
            for name, value in ours.items()
            if not is_printed(value, getattr(row, name))
        ],
    )


def as_printed(value: float, like: str) -> str:
    """Return a value with as many decimals as a printed one has."""
    return f"{value:.{len(like.partition('.')[2])}f}"


def is_printed(value: float, as_text: str) -> bool:
    """Return whether a value is what is printed, as far as both are known."""
    decimals = min(len(as_text.partition(".")[2]), DECIMALS)
    return f"{value:.{decimals}f}" == f"{float(as_text):.{decimals}f}"


def _cause(name: str, printed: str, ms_per_token: float, usd_per_h: float) -> str:
    """Return what the printed figure is instead, if that can be found."""
    # A million tokens, one after the other: this many hours of a single stream.
    hours = ms_per_token * 1e6 / 3.6e6
    if name == "minutes" and as_printed(hours, printed) == printed:
        return f"1M × {ms_per_token:.4f} ms is {hours:.2f} hours of one stream, printed as minutes"
    if name == "usd" and as_printed(hours / 60 * usd_per_h, printed) == printed:
        return f"the cost of {hours:.2f} minutes, which are hours of one stream"
    return "unknown"


def claims() -> list[Disagreement]:
    """Return the figures of the page's text that its tables or its results do not give."""
    large = stages()["13B", "none", "ml.p4d.24xlarge", 20]
    rows = {(row.published.rule, row.published.size): row for row in map(recomputed, published())}
    middle, quick = rows["throughput", "13B"], rows["latency", "7B"]
    slip = f"a slip: no row has it; {by_requests(large):.1f} by the requests of that row"
    hours = "repeats the table's cost of hours taken for minutes"
    cheap = PRICES["*@ml.g5.2xlarge*"].usd_per_h
    said = (
        ("text, 13B on ml.p4d.24xlarge, tokens/s", "688", by_formula(large), slip),
        ("text, 7B on ml.g5.12xlarge, ms/token", "16.8", quick.ms_per_token, ""),
        ("conclusion, 13B on ml.g5.12xlarge, tokens/s", "296", middle.tokens_per_s, ""),
        ("conclusion, the same, USD per 1M", "2.21", middle.cost.usd.value, hours),
        ("conclusion, ml.g5.2xlarge, USD/h", "1.55", cheap, "a slip: its table shows 1.52"),
        ("conclusion, 7B on ml.g5.12xlarge, ms/token", "16", quick.ms_per_token, "cut off"),
    )
    return [
        Disagreement(where=where, published=printed, ours=f"{ours:.5g}", cause=cause)
        for where, printed, ours, cause in said
        if not is_printed(ours, printed)
    ]


def roundings() -> list[str]:
    """Return what looks like a disagreement where a figure was only rounded or cut off."""
    found = []
    for row in map(recomputed, published()):
        printed, exact = row.published, row.cost
        shown = exact.at(evolve(exact.price, usd_per_h=float(printed.usd_per_h))).usd.value
        if as_printed(exact.usd.value, printed.usd) == printed.usd != f"{shown:.2f}":
            found.append(
                f"{printed.rule}, {printed.size}: {printed.usd} USD are right, of "
                f"{exact.price.usd_per_h:g} USD/h; of the {printed.usd_per_h} shown they would be "
                f"{shown:.2f}"
            )
        if printed.tokens_per_s.startswith("71."):
            found.append(f"conclusion: 71 tokens/s are {row.tokens_per_s:.2f}, cut off")
    return found


@frozen(kw_only=True)
class Way:
    """A way to look at the study: the page's own unless something else is said."""

    prices: Mapping[str, lp.Price] = field(factory=lambda: PRICES)
    requests: bool = False
    """Whether tokens per second are those of the counted requests, not of the formula."""
    best_load: bool = False
    """Whether each deployment counts at its best load, not at the one that the page names."""

    def recommended(self, size: str) -> Recommended:
        """Return what the three rules come to for `7B`, `13B` or `70B`."""
        at_load = None if self.best_load else AT_LOAD
        return recommend(self._candidates(size), lp.Needs(at_load=at_load))

    def checked(self) -> list[Checked]:
        """Hold each pick of the page against the best of its rule, and that against the next."""
        found = {size: self.recommended(size) for size in SIZES}
        return [_checked(row, found[row.size][row.rule]) for row in published()]

    def _candidates(self, size: str) -> list[Candidate]:
        rate_of = by_requests if self.requests else by_formula
        rates = {(stage.spec.target, stage.load): rate_of(stage) for stage in stages().values()}
        figure = RATES["output_tokens_per_s"]
        return [
            evolve(one, repeats=[{**one.repeats[0], figure: Estimate(rates[one.target, one.load])}])
            for one in lp.candidates_of(study(), prices=self.prices)
            if SIZES[size] in one.target.lower()
        ]


def name(candidate: Candidate) -> str:
    """Return what a deployment of a size is called: `gptq ml.g5.2xlarge`."""
    instance, _, quantized = candidate.target.partition("@")[2].partition(" ")
    return f"{quantized or 'fp16'} {instance}"


def _checked(row: Published, pick: Pick) -> Checked:
    first, margin = pick.first, pick.margin
    assert first is not None
    assert margin is not None
    of_page = next(one for one in pick.ranking if name(one.candidate) == row.target)
    return Checked(
        published=row,
        agrees=name(first.candidate) == row.target,
        first=_said(first),
        next=_said(margin.runner_up),
        note=_note(first, of_page),
    )


def _said(ranked: Ranked) -> str:
    users = int(ranked.candidate.load.value)
    return f"{name(ranked.candidate)} at {users}: {ranked.value.value:.2f}"


def _note(first: Ranked, of_page: Ranked) -> str:
    """Return how far the published pick is behind, and what the first one's tokens cost."""
    if first is of_page:
        return ""
    behind = max(first.value.value, of_page.value.value) / min(
        first.value.value, of_page.value.value
    )
    dearer = _usd_per_token(first.candidate) / _usd_per_token(of_page.candidate)
    return f"{behind:.2f} times better, at {dearer:.2f} times the cost of a token"


def _usd_per_token(candidate: Candidate) -> float:
    assert candidate.price is not None
    rate = candidate.value("output_tokens_per_s")
    assert rate is not None
    return candidate.price.usd_per_h / rate


def latency_13b() -> list[tuple[str, str, str]]:
    """Return the statistic, and what it says of two 13B deployments at 1 user."""
    found = []
    for statistic in ("p50", "mean", "p90", "p95"):
        one, other = (
            getattr(stages()["13B", "none", instance, 1]["time_per_token"], statistic)
            for instance in ("ml.g5.12xlarge", "ml.p4d.24xlarge")
        )
        found.append((statistic, f"{one.value:.2f}", f"{other.value:.2f}"))
    return found


def main() -> None:
    """Print the nine rows beside ours, what disagrees and why, and each pick beside its rule."""
    print_rows()
    print_picks("Each pick against its own rule, at the load that the page names", Way())
    print_picks("The same, by the requests that were counted", Way(requests=True), NOT_LATENCY)
    print_picks("The same, each deployment at its best load", Way(best_load=True))
    print_picks(
        "At its best load, by the requests", Way(best_load=True, requests=True), NOT_LATENCY
    )
    print_picks("At today's price of ml.p4d.24xlarge", Way(prices=TODAY), ("cost",))
    print_picks("At that and its best load", Way(prices=TODAY, best_load=True), ("cost",))
    heading = "13B at 1 user, ms/token: which is first depends on the statistic"
    print_table(
        heading, ("statistic", "fp16 ml.g5.12xlarge", "fp16 ml.p4d.24xlarge"), latency_13b()
    )
    print("No order is certain: one run each, of which only figures are known.")
    for price in (*PRICES.values(), P4D_TODAY):
        print(f"price: {price.usd_per_h:g} USD/h, {price.as_of}, {price.source}")


def print_rows() -> None:
    """Print the nine rows beside ours, and what disagrees."""
    rows = [recomputed(row) for row in published()]
    print_table(
        "The nine published rows; minutes and USD per 1M tokens also as the results give them",
        ("rule", "model", "deployment", "ms/token", "tokens/s", "min", "ours", "USD", "ours"),
        [
            (
                *(row.published.rule, row.published.size, row.published.target),
                *(row.published.ms_per_token, row.published.tokens_per_s, row.published.minutes),
                as_printed(row.cost.minutes.value, row.published.minutes),
                row.published.usd,
                as_printed(row.cost.usd.value, row.published.usd),
            )
            for row in rows
        ],
    )
    found = [one for row in rows for one in row.disagreements] + claims()
    print_table(
        "What disagrees with the study's own results",
        ("where", "published", "ours", "cause"),
        [(one.where, one.published, one.ours, one.cause) for one in found],
    )
    print("Only rounded or cut off:", *roundings(), sep="\n  ", end="\n\n")


def print_picks(heading: str, way: Way, rules: Sequence[str] = tuple(AT_LOAD)) -> None:
    """Print whether each published pick of these rules is the first by its rule."""
    each = [one for one in way.checked() if one.published.rule in rules]
    print_table(
        heading,
        ("rule", "model", "published", "first?", "first by the rule", "next deployment", "it is"),
        [
            (
                *(one.published.rule, one.published.size, one.published.target),
                *("yes" if one.agrees else "no", one.first, one.next, one.note),
            )
            for one in each
        ],
    )


def print_table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, as wide as it is where nothing says how wide there is room."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 180)
    console.print(heading, style="bold")
    console.print(table)
    console.print()


if __name__ == "__main__":
    main()
