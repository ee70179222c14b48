"""One study for every kind of target: in its file only the line of the targets differs."""

from pathlib import Path

from llmperf_core.studies import StudyRun, read_study

FILE = """
{targets}
repeats = 2
loads = [{{ kind = "concurrency", slots = [1, 2] }}]
workload = {{ kind = "fixed", text = "Write of llamas", max_new_tokens = 4 }}

[settings]
duration_s = 1
warmup_s = 0.2
"""


def studied(folder: Path, url: str, *, budget_usd: float | None = None) -> StudyRun:
    """Run the study with this URL for its target, and return what it measured."""
    file = folder / "study.toml"
    file.write_text(FILE.format(targets=f'targets = ["{url}"]'))
    return read_study(file).run(folder / "out", budget_usd=budget_usd)


def assert_whole(done: StudyRun) -> None:
    """Fail unless its target was brought up once and every cell has answers."""
    assert not done.missing
    [target] = done.targets
    assert target.finding is None
    assert len(target.runs) == 1
    assert [(cell.load.value, cell.repeat) for cell in target.cells] == [
        *((1, 1), (2, 1), (1, 2), (2, 2))
    ]
    page = done._repr_html_()
    assert page.startswith("<p>4 of 4 cells are measured; ")
    assert target.runs[0]._repr_html_() in page
    for stage in target.stages:
        assert stage.summary.requests.completed > 0
        assert stage.summary.requests.failed == 0
