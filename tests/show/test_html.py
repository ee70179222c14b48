"""The notebook's HTML: whole, escaped, and without anything that acts."""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from attrs import evolve

from llmperf_core.judge import Reason, Verdict
from llmperf_core.load import Poisson
from llmperf_core.show import RunView, StageView, run_html, stage_html

Make = Callable[..., StageView]
EVIL = "<script>alert('x')</script>\" & <img src=x onerror=y>"


class Seen(HTMLParser):
    """What a browser would see: tags, attributes, text; and whether each tag was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that opens."""
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note a tag that closes; it must be the one that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


@pytest.fixture(scope="module")
def run(stage: Make) -> RunView:
    """Return a run whose names try to break out."""
    reasons = (Reason(EVIL, EVIL),)
    stages = [stage(), evolve(stage(load=Poisson(2.5)), verdict=Verdict("suspect", reasons))]
    return RunView(EVIL, stages, simulated=True)


def test_names_are_text_and_never_tags(run: RunView) -> None:
    """A target's name or a server's message cannot become a part of the page."""
    for html in (run_html(run), stage_html(run.stages[1])):
        seen = Seen(html)
        assert "<script" not in html
        assert set(seen.tags) <= {
            *("div", "p", "strong", "ul", "li", "code", "br"),
            *("table", "thead", "tbody", "tr", "th", "td"),
            *("svg", "title", "path"),
        }
        assert seen.attributes <= {
            *("style", "role", "aria-label"),
            *("viewbox", "width", "height", "d", "fill", "opacity"),
        }
        assert EVIL in seen.text
        assert "url(" not in html
        assert seen.open == []


def test_a_run_has_a_row_for_each_stage(run: RunView) -> None:
    """The same columns as in the terminal, the simulation in the title."""
    html = run_html(run)
    seen = Seen(html)
    assert seen.tags.count("tr") == 1 + len(run.stages)
    assert "SIMULATED" in seen.text
    assert "concurrency 20" in seen.text
    assert "poisson 2.5/s" in seen.text
    assert "SIMULATED" not in run_html(evolve(run, simulated=False))


def test_a_stage_begins_with_its_verdict(stage: Make) -> None:
    """Then its rates and its distributions with their intervals."""
    text = Seen(stage_html(stage(failed=100))).text
    assert text.startswith("concurrency 20: invaliderrors: 25.0 % of the requests failed")
    assert "time_per_token ms" in text
    assert "124[120, 129]" in Seen(stage_html(stage())).text


def test_each_distribution_is_drawn_in_a_line(stage: Make, run: RunView) -> None:
    """Of one stage every metric's, of several the first one's; its range is said in words."""
    view = stage()
    html = stage_html(view)
    assert html.count("<svg") == len([m for m in view.summary.metrics.values() if m.count])
    assert 'aria-label="TTFT from 100 to 149 ms, logarithmic"' in html
    assert run_html(run).count("<svg") == len(run.stages)


def test_nothing_is_painted_behind_the_text(run: RunView) -> None:
    """Text keeps the notebook's colour and background, light or dark."""
    html = run_html(run)
    assert "background" not in html
    assert "black" not in html
    assert "white" not in html.replace("white-space:nowrap", "")


def test_a_run_of_one_stage_is_that_stage_with_its_title(stage: Make) -> None:
    """The target, whether it is simulated, and all that there is of the stage."""
    view = stage()
    html = run_html(RunView("sim:x", [view], simulated=True))
    assert stage_html(view) in html
    assert Seen(html).text.startswith("sim:x · SIMULATED")


def test_no_stages() -> None:
    """An empty run is a sentence, not an empty table."""
    assert "no stages" in run_html(RunView("t", []))
