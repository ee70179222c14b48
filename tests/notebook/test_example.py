"""The notebook of the examples, run from top to bottom in a real kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "from_server_to_decision.ipynb"
LIMIT_S = 180


def read() -> nbformat.NotebookNode:
    """Return the notebook as it is kept."""
    # Its functions have no types.
    kept: nbformat.NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    return kept


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nbformat.NotebookNode, Path]:
    """The notebook with what came out, and the folder that it ran in; stages are short."""
    place = tmp_path_factory.mktemp("notebook")
    notebook = read()
    assert "DURATION_S = 8" in notebook.cells[1].source
    notebook.cells[1].source = notebook.cells[1].source.replace("DURATION_S = 8", "DURATION_S = 2")
    client = NotebookClient(notebook, timeout=LIMIT_S, resources={"metadata": {"path": str(place)}})
    return client.execute(), place


def test_every_cell_that_ends_in_a_value_shows_it(
    executed: tuple[nbformat.NotebookNode, Path],
) -> None:
    """Tables say SIMULATED, pictures are SVG, and the answer is a sentence."""
    notebook, _ = executed
    shown = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "execute_result"
    ]
    html = [data.get("text/html", "") for data in shown]
    assert sum("<table" in one and "SIMULATED" in one for one in html) == 3
    assert sum(one.startswith("<figure") and "SIMULATED" in one for one in html) == 5
    printed = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream"
    ]
    assert [text.startswith("ttft.p90=250: ") for text in printed] == [True]
    assert not any("<script" in one for one in html)


def test_it_ends_in_a_report(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    """Which is there."""
    _, place = executed
    assert {path.name for path in (place / "report").iterdir()} == {
        *("report.html", "report.md", "summary.csv")
    }


def test_it_is_kept_without_what_came_out() -> None:
    """Of a run on somebody's machine, nothing stays in the repository."""
    notebook = read()
    assert all(not cell.get("outputs") for cell in notebook.cells)
    assert all(cell.get("execution_count") is None for cell in notebook.cells)
