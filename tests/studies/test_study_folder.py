"""A study's folder that is damaged, foreign, or cannot be written."""

from pathlib import Path

import pytest

from llmperf_core.errors import StoredRunError
from llmperf_core.studies import is_study, load_study
from llmperf_core.studies.folder import StoredStudy, StoredTarget, StudyFolder, done_cells


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "holds no study.json; is it a study's folder?"),
        ("{", "is damaged"),
        ('{"schema": "llmperf.study/9"}', "its schema is 'llmperf.study/9'"),
        ('{"schema": "llmperf.study/1", "targets": 3}', "is damaged"),
    ],
)
def test_what_is_no_study_is_said(content: str | None, says: str, tmp_path: Path) -> None:
    """In one line, with its place."""
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(StoredRunError, match=says):
        load_study(tmp_path)


def test_a_study_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder is in the file's place."""
    (tmp_path / "study.json").mkdir()
    with pytest.raises(StoredRunError, match="cannot be read"):
        load_study(tmp_path)


def test_a_folder_that_cannot_be_made() -> None:
    """Not even the owner of the machine can make a folder in /proc."""
    with pytest.raises(StoredRunError, match="cannot be written"):
        StudyFolder(Path("/proc/study"), resume=False)


def test_a_journal_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """It is what the money is counted by: the study does not go on without it."""
    folder = StudyFolder(tmp_path, resume=False)
    with folder:
        folder.append("begun", run="a.1", target="a", usd=1.0)
    with pytest.raises(StoredRunError, match=r"journal\.jsonl.*cannot be written"):
        folder.append("gone", run="a.1", target="a", usd=1.0)


def test_a_study_that_has_measured_nothing(tmp_path: Path) -> None:
    """It can be read, and says that."""
    with StudyFolder(tmp_path, resume=False) as folder:
        assert not is_study(tmp_path)
        folder.begin(StoredStudy(targets=[StoredTarget(name="a")]))
    found = load_study(tmp_path)

    assert is_study(tmp_path)
    assert "0 of 0 cells are measured" in repr(found)
    assert found._repr_html_() == "<p>0 of 0 cells are measured; 0.00 USD spent</p>"
    assert found["a"].cells == ()
    with pytest.raises(KeyError):
        found["b"]


def test_a_damaged_stage_is_not_done(tmp_path: Path) -> None:
    """It will be measured again."""
    stage = tmp_path / "runs" / "a.1" / "stages" / "01-concurrency-1"
    stage.mkdir(parents=True)
    (tmp_path / "runs" / "a.1" / "run.json").write_text("{}")
    (stage / "stage.json").write_text('{"cell": "0123", "observ')

    assert done_cells(tmp_path) == set()
