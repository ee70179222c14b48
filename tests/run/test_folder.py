"""A run's folder: readable at any instant, by its owner alone, and never overwritten."""

import json
import stat
from pathlib import Path

import pytest
from attrs import evolve

from llmperf_core.errors import StoredRunError
from llmperf_core.judge import Precision, Slo
from llmperf_core.load import Concurrency, ConstantRate, LoadProfile, Poisson
from llmperf_core.run import folder as module
from llmperf_core.run.folder import RunFolder, RunSpec, read_run
from llmperf_core.run.journal import StoredTimelines
from llmperf_core.run.settings import Deadlines, Settings
from llmperf_core.timeline import Completed, Observation, Timeline, Window
from llmperf_core.units import NS_PER_S
from tests.calibrated import GOOD

SPEC = RunSpec(
    target="http://model",
    endpoint={"protocol": "tgi", "model": None, "server": {"version": "3.3", "limits": [1, 2]}},
    workload={"kind": "fixed", "text": "Write of llamas"},
    settings=Settings(
        duration_s=10,
        warmup_s=1,
        seed=7,
        deadlines=Deadlines(gap_s=5),
        requests=100,
        calibration=evolve(GOOD, lag=None),
        precision=Precision("ttft", 90, relative=0.1),
    ),
    seed=7,
    slo=Slo(ttft_ms=500, tpot_ms=20.5),
    environment={"python": "CPython", "cores": 2},
)
OBSERVATION = Observation(
    window=Window(open_at_ns=NS_PER_S, close_at_ns=11 * NS_PER_S),
    ended_at_ns=12 * NS_PER_S,
    started_at="2024-01-01T00:00:00+00:00",
    client_cpu_ns=5,
    reads=9,
    user_stamped_reads=1,
    clock_steps=2,
    zero_at_ns=3,
)


def timeline(index: int, ended_at_s: float) -> Timeline:
    """Return a request that ended then."""
    return Timeline(
        index=index,
        due_at_ns=None,
        sent_at_ns=0,
        ended_at_ns=round(ended_at_s * NS_PER_S),
        outcome=Completed(),
    )


def write_stage(
    folder: RunFolder, load: LoadProfile, *ended_at_s: float, finished: bool = True
) -> Path:
    """Write a stage with requests that ended then, and return its folder."""
    stage = folder.new_stage(load)
    with stage.journal() as journal:
        for index, at_s in enumerate(ended_at_s):
            journal.append(timeline(index, at_s))
    if finished:
        stage.finish(OBSERVATION)
        stage.keep({"summary.json": b"{}\n"})
    return stage.path


def files(folder: Path) -> set[str]:
    """Return the files in a folder, by their paths in it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_run_comes_back_as_it_was(tmp_path: Path) -> None:
    """What was run, and every stage in its order: the load, the timelines, the observation."""
    loads: list[LoadProfile] = [Concurrency(20), ConstantRate(2.5), Poisson(0.125)]
    folder = RunFolder(tmp_path / "run", SPEC)
    for load in loads:
        write_stage(folder, load, 2, 3)
    spec, stages = read_run(tmp_path / "run")

    assert spec == SPEC
    assert [stage.load for stage in stages] == loads
    assert [len(stage.timelines) for stage in stages] == [2, 2, 2]
    assert [stage.observation for stage in stages] == [OBSERVATION] * 3


def test_stages_keep_their_order_beyond_the_hundredth(tmp_path: Path) -> None:
    """They are in the order of being run and not in that of a dictionary."""
    folder = RunFolder(tmp_path, SPEC)
    for slots in range(1, 102):
        write_stage(folder, Concurrency(slots))

    assert [stage.load.value for stage in read_run(tmp_path)[1]] == list(range(1, 102))


def test_layout_is_as_documented(tmp_path: Path) -> None:
    """Scripts and people look for these names; nothing else is left behind."""
    write_stage(RunFolder(tmp_path, SPEC), Concurrency(5), 2)

    stage = "stages/01-concurrency-5"
    names = ("stage.json", "timelines.jsonl", "summary.json")
    assert files(tmp_path) == {"run.json", *(f"{stage}/{name}" for name in names)}
    assert json.loads((tmp_path / "run.json").read_text())["schema"] == "llmperf.run/1"


def test_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """Servers quote what they were asked, so nobody else may look into it."""
    place = tmp_path / "deep" / "run"
    stage = write_stage(RunFolder(place, SPEC), Concurrency(5), 2)

    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(stage.stat().st_mode) == 0o700
    found = {stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*") if path.is_file()}
    assert found == {0o600}


def test_run_is_never_overwritten(tmp_path: Path) -> None:
    """A name that was used before is a mistake, and an expensive one."""
    RunFolder(tmp_path, SPEC)
    before = (tmp_path / "run.json").read_bytes()

    with pytest.raises(StoredRunError, match="there is a run in it already"):
        RunFolder(tmp_path, evolve(SPEC, target="http://other"))
    assert (tmp_path / "run.json").read_bytes() == before


def test_folder_that_exists_may_be_used(tmp_path: Path) -> None:
    """If there is no run in it."""
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder(tmp_path, SPEC)

    assert read_run(tmp_path)[0] == SPEC


def test_settings_do_not_hold_where_the_run_lies(tmp_path: Path) -> None:
    """A folder can be moved."""
    RunFolder(tmp_path, evolve(SPEC, settings=evolve(SPEC.settings, folder=tmp_path)))

    assert read_run(tmp_path)[0].settings.folder is None
    assert str(tmp_path) not in (tmp_path / "run.json").read_text()


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """Said at once, and not after the measuring."""
    path = tmp_path / "file"
    path.write_text("mine")

    with pytest.raises(StoredRunError, match="cannot be made: File exists"):
        RunFolder(path, SPEC)
    with pytest.raises(StoredRunError, match="cannot be made: Not a directory"):
        RunFolder(path / "run", SPEC)


def test_folder_that_cannot_be_written() -> None:
    """Not even the owner of the machine can make a folder in /proc."""
    with pytest.raises(StoredRunError, match="cannot be made"):
        RunFolder(Path("/proc/run"), SPEC)


def test_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """Whole or not at all: no half file, no temporary one."""
    stage = RunFolder(tmp_path, SPEC).new_stage(Concurrency(5))
    (stage.path / "summary.json").mkdir()
    before = files(tmp_path)

    with pytest.raises(StoredRunError, match="cannot be written"):
        stage.keep({"summary.json": b"{}"})
    assert files(tmp_path) == before


def test_crash_leaves_an_interrupted_stage(tmp_path: Path) -> None:
    """No observation was written: the window ends with what was written last."""
    write_stage(RunFolder(tmp_path, SPEC), Concurrency(5), 2, 6.5, finished=False)
    [stage] = read_run(tmp_path)[1]

    assert stage.observation.interrupted
    assert len(stage.timelines) == 2
    window = stage.observation.window
    assert window.open_at_ns == 1 * NS_PER_S
    assert timeline(0, 6.5).ended_at_ns in window
    assert window.duration_ns < 6 * NS_PER_S


def test_crash_in_the_drain_leaves_the_planned_window(tmp_path: Path) -> None:
    """Of what came after it, nothing counts."""
    write_stage(RunFolder(tmp_path, SPEC), Concurrency(5), 2, 30, finished=False)
    [stage] = read_run(tmp_path)[1]

    assert stage.observation.window == Window(open_at_ns=NS_PER_S, close_at_ns=11 * NS_PER_S)


def test_crash_in_the_warm_up_leaves_an_empty_window(tmp_path: Path) -> None:
    """Nothing was measured."""
    write_stage(RunFolder(tmp_path, SPEC), Concurrency(5), 0.5, finished=False)
    write_stage(RunFolder(tmp_path / "none", SPEC), Concurrency(5), finished=False)

    for folder in (tmp_path, tmp_path / "none"):
        [stage] = read_run(folder)[1]
        assert stage.observation.window.duration_ns == 0


@pytest.mark.parametrize(
    ("lost", "stages"), [(("stage.json", "timelines.jsonl"), 1), (("timelines.jsonl",), 2)]
)
def test_crash_while_a_stage_is_begun_costs_no_other(
    tmp_path: Path, lost: tuple[str, ...], stages: int
) -> None:
    """Between making its folder and the first line in it, a stage is not worth a run."""
    folder = RunFolder(tmp_path, SPEC)
    write_stage(folder, Concurrency(1), 2)
    begun = write_stage(folder, Concurrency(2), finished=False)
    for name in lost:
        (begun / name).unlink()
    (begun / ".stage.json.x7z").write_bytes(b'{"lo')

    assert [stage.load.value for stage in read_run(tmp_path)[1]] == [1, 2][:stages]


def test_timelines_of_an_unknown_load_are_said(tmp_path: Path) -> None:
    """What was measured is never passed over in silence."""
    stage = write_stage(RunFolder(tmp_path, SPEC), Concurrency(1), 2)
    (stage / "stage.json").unlink()

    with pytest.raises(StoredRunError, match=r"holds no stage\.json"):
        read_run(tmp_path)


def test_what_others_put_beside_the_stages_is_passed_over(tmp_path: Path) -> None:
    """File managers do."""
    write_stage(RunFolder(tmp_path, SPEC), Concurrency(1), 2)
    (tmp_path / "stages" / ".DS_Store").write_bytes(b"\0")

    assert len(read_run(tmp_path)[1]) == 1


def test_run_before_its_first_stage(tmp_path: Path) -> None:
    """It has none, and that can be read."""
    RunFolder(tmp_path, SPEC)

    assert read_run(tmp_path) == (SPEC, [])


@pytest.mark.parametrize("path", ["", "nowhere", "file"])
def test_what_is_no_run_is_said(tmp_path: Path, path: str) -> None:
    """An empty folder, none at all, or a file."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(StoredRunError, match=r"is it a run's folder|cannot be read"):
        read_run(tmp_path / path)


def test_unknown_schema_is_said(tmp_path: Path) -> None:
    """A later version's folder is not misread."""
    RunFolder(tmp_path, SPEC)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("llmperf.run/1", "llmperf.run/9"))

    with pytest.raises(StoredRunError, match=r"'llmperf\.run/9', this version"):
        read_run(tmp_path)


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    """Fields may be added under the same schema."""
    RunFolder(tmp_path, SPEC)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"target"', '"mood": "fine",\n "target"'))

    assert read_run(tmp_path)[0] == SPEC


DAMAGE = {
    "run.json": ["", "[]", "{", '{"schema": "llmperf.run/1"}'],
    "stage.json": ["", "[]", "{}", '{"load": {}}', '{"load": {"kind": "x", "value": 1}}'],
    "timelines.jsonl": ["{}\n"],
}
EDITS = [
    ("run.json", '"duration_s": 10', '"duration_s": -1'),
    ("run.json", '"duration_s": 10', '"duration_s": "long"'),
    ("run.json", '"target": "http://model"', '"goal": 1'),
    ("run.json", '"ttft_ms": 500', '"ttft_ms": -500'),
    ("run.json", '"tpot_ms": 20.5', '"tpot_ms": "soon"'),
    ("run.json", '"environment": {', '"environment": [], "mood": {'),
    ("stage.json", '"slots": 5', '"value": 0'),
    ("stage.json", '"slots": 5', '"slots": "5"'),
    ("stage.json", '"open_at_ns"', '"opens"'),
    ("stage.json", '"reads": 9', '"reads": null'),
]


@pytest.mark.parametrize(
    ("name", "content"), [(name, text) for name, texts in DAMAGE.items() for text in texts]
)
def test_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    """By its path, in one line."""
    write_stage(RunFolder(tmp_path, SPEC), Concurrency(5), 2)
    [path] = tmp_path.rglob(name)
    path.write_text(content)

    with pytest.raises(StoredRunError) as raised:
        read_run(tmp_path)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(("name", "old", "new"), EDITS)
def test_file_that_says_what_cannot_be_is_named(
    tmp_path: Path, name: str, old: str, new: str
) -> None:
    """JSON, but not of a run: some other program's, or edited by hand."""
    write_stage(RunFolder(tmp_path, SPEC), Concurrency(5), 2)
    [path] = tmp_path.rglob(name)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(StoredRunError, match="is damaged"):
        read_run(tmp_path)


def test_a_long_journal_is_read_when_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too long for the memory comes back as the same requests."""
    folder = RunFolder(tmp_path / "run", SPEC)
    write_stage(folder, Concurrency(5), 2, 3, 4)
    monkeypatch.setattr(module, "_IN_MEMORY_BYTES", 100)
    [stage] = read_run(tmp_path / "run")[1]
    assert isinstance(stage.timelines, StoredTimelines)
    assert [timeline.index for timeline in stage.timelines] == [0, 1, 2]
