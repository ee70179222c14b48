"""Reports: what stands in each file, in which order, and that nothing in it acts."""

import csv
import io
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from attrs import evolve

from llmperf_core import (
    Fixed,
    Run,
    StageResult,
    Synthetic,
    compare,
    import_results,
    recommend,
    write_report,
)
from llmperf_core.cli.main import _parser, main
from llmperf_core.errors import MissingExtraError, StoredRunError, UsageError
from llmperf_core.importers import save_runs
from llmperf_core.load import Concurrency, ConstantRate, Gamma, Poisson
from llmperf_core.report.command import command_of
from llmperf_core.results import load_runs
from llmperf_core.run import Settings
from llmperf_core.show.plots import plot as plot_module
from llmperf_core.timeline import Failed
from tests.report.hostile import EVIL, evil_run
from tests.test_compare import SERVER, SLOWER, SPEC, run, stage

STUDY = Path(__file__).parents[2] / "examples/published_study/llama2_sagemaker_tgi_1_0_3.csv"


class Seen(HTMLParser):
    """What a browser would see: tags, attributes, and the text in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that opens."""
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


def broken(one: StageResult) -> StageResult:
    """Return the stage as if half of its requests had failed."""
    timelines = [
        evolve(timeline, outcome=Failed("http_500", "out of memory")) if k % 2 else timeline
        for k, timeline in enumerate(one.timelines)
    ]
    return StageResult.of(timelines, one.observation, load=one.load, spec=one.spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that tries to break out."""
    place = tmp_path_factory.mktemp("report")
    write_report(evil_run(), place, junit_file=place / "junit.xml")
    return place


def test_nothing_that_others_said_is_a_part_of_the_page(folder: Path) -> None:
    """Names, prompts and errors are text: no tag, no attribute, no address comes of them."""
    html = (folder / "report.html").read_text("utf-8")
    seen = Seen(html)
    assert seen.text.count(EVIL) >= 8
    assert not {"script", "img", "iframe", "object", "link"} & set(seen.tags)
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert not {"href", "src", "xlink:href"} & seen.attributes
    assert "url(http" not in html


def test_the_page_begins_with_verdict_and_answer(folder: Path) -> None:
    """Then the tables, the pictures, how to reproduce it, the method and the environment."""
    text = Seen((folder / "report.html").read_text("utf-8")).text
    order = (
        *("SIMULATED", "2 stages:", "Most throughput:", "Lowest TTFT (p50):"),
        *("A row for each load", "TTFT against throughput", "Distributions, with 95 %"),
        *("How to reproduce it", "Method", "Environment"),
    )
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_every_picture_has_its_figures_in_words(folder: Path) -> None:
    """For a screen reader in the picture, and to be unfolded under it."""
    html = (folder / "report.html").read_text("utf-8")
    pictures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(pictures) == 4 + 2 * 5
    for picture in pictures:
        assert 'role="img"' in picture
        assert re.search(r"<title [^>]*>[^<]+</title><desc [^>]*>[^<]*\d", picture)
    assert html.count("<summary>in figures</summary>") == len(pictures)


def test_markdown_is_text_only(folder: Path) -> None:
    """The same order, and nothing in it is a tag, a link or the end of a cell."""
    text = (folder / "report.md").read_text("utf-8")
    assert text.startswith("# \\<script\\>")
    assert text.index("**SIMULATED**") < text.index("Most throughput") < text.index("| load |")
    shown = [line for line in text.splitlines() if not line.startswith("    ")]
    assert not re.search(r"(?<!\\)[<>]", "\n".join(shown))
    tables = [line for line in shown if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables}) == 1


def test_csv_has_a_line_for_each_stage(folder: Path) -> None:
    """With the keys of the JSON document, and no cell that is a formula."""
    rows = list(csv.DictReader(io.StringIO((folder / "summary.csv").read_text("utf-8"))))
    first = evil_run().stages[0]
    p50 = first["ttft"].p50
    assert p50 is not None
    assert [row["load.label"] for row in rows] == ["concurrency 4", "concurrency 8"]
    assert float(rows[0]["metrics.ttft.p50"]) == pytest.approx(p50.value)
    assert float(rows[0]["metrics.ttft.ci95.p50.low"]) < p50.value
    assert rows[0]["verdict.status"] == first.verdict.status
    assert rows[0]["verdict.reasons"] == " ".join(r.code for r in first.verdict.reasons)


def test_a_formula_is_defused(tmp_path: Path) -> None:
    """A spreadsheet that opens the file runs nothing."""
    write_report(run(stage(spec=evolve(SPEC, target="=cmd|'/c calc'!A1"))), tmp_path)
    row = next(csv.DictReader(io.StringIO((tmp_path / "summary.csv").read_text("utf-8"))))
    assert row["target"] == "'=cmd|'/c calc'!A1"


def test_junit_has_a_test_for_each_stage(tmp_path: Path) -> None:
    """An invalid one fails with its reasons; characters that XML forbids do not break it."""
    target = f"model\x00 {EVIL}"
    stages = [stage(), broken(stage(load=Concurrency(16)))]
    found = Run(spec=evolve(SPEC, target=target), stages=tuple(stages))
    write_report(found, tmp_path, junit_file=tmp_path / "junit.xml")
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()  # noqa: S314 -- ours
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [test.get("name") for test in suite] == ["concurrency 8", "concurrency 16"]
    assert "errors: " in (suite[1].findtext("failure") or "")
    assert EVIL in (suite[0].get("classname") or "")


def test_a_comparison_comes_first(tmp_path: Path) -> None:
    """What is worse is in the first sentences, in the JUnit file, and drawn."""
    before, after = run(stage()), run(stage(SLOWER, 2))
    write_report(
        after, tmp_path, comparison=compare(before, after), junit_file=tmp_path / "junit.xml"
    )
    text = Seen((tmp_path / "report.html").read_text("utf-8")).text
    assert text.index("the gate is not passed") < text.index("Most throughput")
    assert re.search(r"Worse: .*itl p50 ms \+9", text)
    assert "What has changed" in text
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()  # noqa: S314 -- ours
    failures = {test.get("name"): test.find("failure") for test in root[1]}
    worse = failures["itl p50 ms"]
    assert worse is not None
    assert re.match(r"changed by 9\.\d+ %, 95 % interval", worse.get("message", ""))
    assert None in failures.values()


def test_which_to_deploy_comes_first(tmp_path: Path) -> None:
    """The pick of each rule, the picture of cost against latency, and the prices behind it."""
    specs = [evolve(SPEC, target=f"http://{name}") for name in ("quick", "slow")]
    runs = [run(stage(SERVER, spec=specs[0])), run(stage(SLOWER, 2, spec=specs[1]))]
    for one in runs:
        one.save(tmp_path / one.spec.target[-4:])
    prices = ["--price", "http://quick=7.09", "--price", "http://slow=1.515"]
    junit = ["--junit", str(tmp_path / "junit.xml")]
    assert main(["report", str(tmp_path), *prices, *junit]) == 0
    seen = Seen((tmp_path / "report.html").read_text("utf-8"))
    first = seen.text.index("most cost-effective: http://slow at concurrency 8: ")
    assert first < seen.text.index("Most throughput") < seen.text.index("Which to deploy")
    assert "Cost against latency" in seen.text
    assert "On the Pareto front: http://slow at concurrency 8: " in seen.text
    assert "price: 7.09 USD/h" in seen.text
    assert "## Which to deploy" in (tmp_path / "report.md").read_text("utf-8")


def test_a_choice_without_prices_has_no_picture() -> None:
    """There is no cost to draw."""
    with pytest.raises(UsageError, match="are there prices"):
        recommend(run(stage())).plots.cost()


def test_the_published_study_is_small(tmp_path: Path) -> None:
    """Sixty stages of fifteen targets in less than 3 MB, each target in the table of all."""
    runs = import_results("published-study", STUDY)
    save_runs(runs, tmp_path / "study")
    stored = load_runs(tmp_path / "study")
    assert [one.spec.target for one in stored] == [one.spec.target for one in runs]
    page = write_report(stored, tmp_path / "study")
    html = page.read_text("utf-8")
    assert sum(len(one.stages) for one in runs) == 60
    assert len(html.encode()) < 3_000_000
    seen = Seen(html)
    assert "60 stages: 60 suspect" in seen.text
    for one in runs:
        assert seen.text.count(one.spec.target) >= 3
    assert "Another tool measured this" in seen.text
    assert (tmp_path / "study" / "summary.csv").read_text("utf-8").count("\n") == 61


def test_one_stage_and_none(tmp_path: Path) -> None:
    """A run of one stage unfolds it; one that was interrupted before its first says so."""
    write_report(run(stage()), tmp_path / "one")
    html = (tmp_path / "one" / "report.html").read_text("utf-8")
    assert '<details class="stage" open>' in html
    assert html.count("<svg") == 5
    write_report(Run(spec=SPEC, stages=()), tmp_path / "none")
    text = Seen((tmp_path / "none" / "report.html").read_text("utf-8")).text
    assert "No stage is good enough" in text


def test_no_answer_rests_on_an_invalid_stage(tmp_path: Path) -> None:
    """However good its numbers are."""
    invalid, valid = broken(stage(load=Concurrency(64))), stage()
    write_report(run(invalid, valid), tmp_path)
    lines = (tmp_path / "report.md").read_text("utf-8").splitlines()
    answers = [line for line in lines if line.startswith(("- Most", "- Lowest"))]
    assert len(answers) == 2
    assert all("concurrency 8" in line for line in answers)


def test_github_gets_the_summary_of_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appended to what is there, as a step may write several."""
    summary = tmp_path / "step.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    write_report(run(stage()), tmp_path)
    written = summary.read_text("utf-8")
    assert written.startswith("before\n# http:")
    assert written.endswith((tmp_path / "report.md").read_text("utf-8"))


def test_without_the_extra_only_the_page_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of CI that has no use for pictures still gets its files."""
    monkeypatch.setattr(plot_module, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"llmperf-toolkit\[plots\]"):
        write_report(run(stage()), tmp_path, junit_file=tmp_path / "junit.xml")
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"report.md", "summary.csv", "junit.xml"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "file").touch()
    with pytest.raises(StoredRunError, match=r"report\.md': cannot be written"):
        write_report(run(stage()), tmp_path / "file")


@pytest.mark.parametrize(
    ("load", "options"),
    [
        (Concurrency(8), "--concurrency 8"),
        (Poisson(2.5), "--rate 2.5"),
        (ConstantRate(4), "--rate 4 --arrival constant"),
    ],
)
def test_the_command_measures_the_same(
    load: Concurrency | Poisson | ConstantRate, options: str
) -> None:
    """It is one that the command line takes, with the load, the prompt, the window and the seed."""
    workload = Fixed("it's <a> story", max_new_tokens=9, unique=False).describe()
    settings = Settings(duration_s=12, requests=99, max_in_flight=7, warmup_s=1)
    spec = evolve(SPEC, workload=workload, settings=settings, seed=5)
    command = command_of(run(stage(spec=spec, load=load)))
    assert command is not None
    assert options in command
    given = _parser().parse_args(shlex.split(command)[1:])
    assert (given.workload, given.output_tokens) == ("fixed:it's <a> story", "9")
    assert (given.duration, given.requests, given.max_in_flight) == (12, 99, 7)
    assert (given.seed, given.repeat_prompts) == (5, True)


def test_a_command_says_synthetic_lengths_too() -> None:
    """Where they are numbers."""
    spec = evolve(SPEC, workload=Synthetic(100, 20).describe())
    command = command_of(run(stage(spec=spec)))
    assert "--workload synthetic:100 --output-tokens 20" in (command or "")


def test_what_no_command_does_again_has_none() -> None:
    """Loads of a kind that the command line has not, or of several kinds."""
    assert command_of(run(stage(load=Gamma(2, 0.5)))) is None
    assert command_of(run(stage(), stage(load=Poisson(2)))) is None


def test_the_command_line_writes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its status is that of a gate: 1 if a stage is invalid, or something is worse."""
    run(stage()).save(tmp_path / "before")
    run(stage(SLOWER, 2)).save(tmp_path / "after")
    run(broken(stage())).save(tmp_path / "broken")
    assert main(["report", str(tmp_path / "before")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "before" / "report.html")
    page = tmp_path / "page.html"
    after = ["report", str(tmp_path / "after"), "--html", str(page)]
    assert main([*after, "--baseline", str(tmp_path / "before")]) == 1
    assert "Comparison" in page.read_text("utf-8")
    assert main(["report", str(tmp_path / "broken")]) == 1
    assert main(["report", str(tmp_path / "nothing")]) == 1
    assert "holds no run.json" in capsys.readouterr().err
