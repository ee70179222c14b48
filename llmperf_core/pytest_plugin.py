"""pytest plugin: measure a server in a test, hold it to limits, and to a baseline.

    @pytest.mark.llmperf(slo="ttft.p95=500", baseline="chat")
    def test_chat(llmperf_bench):
        llmperf_bench(lp.Concurrency(4), duration_s=20)

pytest loads it by its entry point, and with it `llmperf_core`: that takes each start of pytest some
tenths of a second, whatever it runs. `-p no:llmperf` leaves it out.
"""

import re
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from anyio.from_thread import start_blocking_portal
from attrs import frozen

from llmperf_core.backends import target_of
from llmperf_core.benchmark import bench
from llmperf_core.decide import PercentileLimit
from llmperf_core.errors import LLMPerfError
from llmperf_core.gate import Gate
from llmperf_core.judge import samples
from llmperf_core.load import LoadProfile
from llmperf_core.results import StageResult, load_run
from llmperf_core.run import Settings
from llmperf_core.show import load_label
from llmperf_core.target import Endpoint, Target
from llmperf_core.workload import Synthetic, Workload

if TYPE_CHECKING:
    from llmperf_core.testing import Script

_MARKER = (
    "llmperf(slo=None, baseline=None, gate=None): limits on percentiles (`ttft.p95=500`, several "
    "with commas, or PercentileLimits), the name of the baseline that `llmperf_bench` holds its "
    "stage against, and the Gate that says how strictly"
)
_CHANCE = 0.005
"""Of calling a limit broken that holds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the command line and the configuration file may say."""
    group = parser.getgroup("llmperf", "benchmarks of LLM inference endpoints")
    group.addoption("--llmperf-target", metavar="URL", help="what `llmperf_target` measures")
    group.addoption(
        "--llmperf-update", action="store_true", help="measure the baselines anew, and pass"
    )
    group.addoption("--llmperf-baselines", metavar="DIR", help="where the baselines are")
    parser.addini("llmperf_target", "what `llmperf_target` measures: a URL")
    parser.addini(
        "llmperf_baselines", "where the baselines are, from rootdir", default="llmperf_baselines"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@frozen
class _Opened:
    """A target that is open already, for the whole session: a test neither opens nor closes it."""

    name: str
    endpoint: Endpoint

    def open(self) -> AbstractAsyncContextManager[Endpoint]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Endpoint]:
            yield self.endpoint

        return opened()


@pytest.fixture(scope="session")
def llmperf_open() -> Iterator[Callable[[Target | str], Target]]:
    """Return what brings up a target, or what a URL names; it is taken down with the session."""
    with start_blocking_portal() as portal, ExitStack() as opened:

        def bring_up(target: Target | str) -> Target:
            with _told():
                aim = target_of(target) if isinstance(target, str) else target
                opening = portal.wrap_async_context_manager(aim.open())
                return _Opened(aim.name, opened.enter_context(opening))

        yield bring_up


@pytest.fixture(scope="session")
def llmperf_target(
    request: pytest.FixtureRequest, llmperf_open: Callable[[Target | str], Target]
) -> Target:
    """Return the target that the command line or the configuration names, brought up.

    Override it in a `conftest.py` to measure a container, a simulator, or a target of your own.
    """
    config = request.config
    url = config.getoption("--llmperf-target") or config.getini("llmperf_target")
    if not url:
        pytest.skip(
            "llmperf: no target; give --llmperf-target URL, set `llmperf_target` in the "
            "configuration, or override the fixture `llmperf_target`"
        )
    return llmperf_open(url)


@pytest.fixture(scope="session")
def llmperf_scripted(
    llmperf_open: Callable[[Target | str], Target],
) -> "Iterator[Callable[[Script], Target]]":
    """Return what starts a server that answers as a script says: a known truth to test against."""
    from llmperf_core.testing import ReferenceServer

    with ExitStack() as running:
        yield lambda script: llmperf_open(running.enter_context(ReferenceServer(script)).url)


@pytest.fixture
def llmperf_bench(request: pytest.FixtureRequest) -> "Bench":
    """Return what measures a stage, and holds it against what the marker `llmperf` says."""
    return Bench(request)


@frozen
class Bench:
    """What the fixture `llmperf_bench` gives to a test."""

    _request: pytest.FixtureRequest

    def __call__(
        self,
        load: LoadProfile,
        target: Target | str | None = None,
        *,
        workload: Workload | None = None,
        duration_s: float | None = None,
        settings: Settings | None = None,
    ) -> StageResult:
        """Measure, and return the stage if it is valid, keeps the limits, and is no worse.

        The test fails where a limit is proved to be broken, or a figure proved to be worse than the
        baseline's; it is skipped where the verdict says that the numbers cannot be used.

        Args:
            load: when requests start.
            target: None takes the fixture `llmperf_target`.
            workload: what is asked; None asks what `llmperf_core.bench` asks.
            duration_s: length of the window; None takes that of the settings.
            settings: how it is measured.
        """
        aim = self._request.getfixturevalue("llmperf_target") if target is None else target
        asked = Synthetic() if workload is None else workload
        how = settings or Settings(quiet=True)

        measured: list[StageResult] = []

        def measure() -> StageResult:
            with _alone(self._request), _told():
                stage = bench(aim, load, workload=asked, duration_s=duration_s, settings=how)
            measured.append(stage)
            _skip_invalid(stage)
            return stage

        try:
            return self._held(load, measure)
        finally:
            if measured:
                self._show("llmperf", repr(measured[-1]))

    def _held(self, load: LoadProfile, measure: Callable[[], StageResult]) -> StageResult:
        marked = _Marked.of(self._request)
        if marked.baseline is None:
            stage = measure()
        else:
            baseline = _Baseline.of(self._request, marked.baseline, load)
            update = self._request.config.getoption("--llmperf-update")
            hold = self._update if update else self._gate
            stage = hold(measure, marked.gate, baseline)
        self._record(stage)
        _keep_limits(stage, marked.limits)
        return stage

    def _record(self, stage: StageResult) -> None:
        """Add what reports such as JUnit's carry."""
        for name in ("ttft", "itl", "e2e"):
            summary = stage.summary.metrics.get(name)
            if summary is not None and summary.p50 is not None:
                figure = (f"llmperf_{name}_p50_{summary.p50.unit}", summary.p50.value)
                self._request.node.user_properties.append(figure)

    def _update(
        self, measure: Callable[[], StageResult], gate: Gate, baseline: "_Baseline"
    ) -> StageResult:
        """Measure the baseline anew; what was there is gone once all of the new one is."""
        stages = [measure() for _ in range(gate.repeats)]
        baseline.write(stages)
        return stages[-1]

    def _gate(
        self, measure: Callable[[], StageResult], gate: Gate, baseline: "_Baseline"
    ) -> StageResult:
        before = baseline.read()
        with _told("or measure the baseline anew: --llmperf-update"):
            gated = gate.judge(before, measure)
        self._show("llmperf: against the baseline", f"{gated}\n\n{gated.comparison!r}")
        if gated.worse:
            pytest.fail(f"llmperf: {gated}", pytrace=False)
        return gated.candidate[0]

    def _show(self, title: str, text: str) -> None:
        """Add what pytest prints below a test that fails."""
        self._request.node.add_report_section("call", title, text)


@frozen
class _Marked:
    """What the markers of a test say, the nearest first."""

    limits: Sequence[PercentileLimit]
    baseline: str | None
    gate: Gate

    @classmethod
    def of(cls, request: pytest.FixtureRequest) -> "_Marked":
        said: dict[str, Any] = {}
        for marker in request.node.iter_markers("llmperf"):
            if marker.args or not marker.kwargs.keys() <= {"slo", "baseline", "gate"}:
                pytest.fail(f"llmperf: a marker is written otherwise: {_MARKER}", pytrace=False)
            said = {**marker.kwargs, **said}
        slo = said.get("slo") or ()
        with _told():
            parsed = map(PercentileLimit.parse, slo.split(",")) if isinstance(slo, str) else slo
            return cls(tuple(parsed), said.get("baseline"), said.get("gate") or Gate())


@frozen
class _Baseline:
    """Repeats of one stage, kept in a folder of the user's repository."""

    folder: Path

    @classmethod
    def of(cls, request: pytest.FixtureRequest, name: str, load: LoadProfile) -> "_Baseline":
        config = request.config
        given = config.getoption("--llmperf-baselines") or config.getini("llmperf_baselines")
        parts = [re.sub(r"[^\w.=-]+", "-", part) for part in (name, load_label(load))]
        return cls(config.rootpath.joinpath(str(given), *parts))

    def read(self) -> list[StageResult]:
        with _told("make it anew: --llmperf-update"):
            runs = [load_run(path) for path in sorted(self.folder.glob("[0-9]*"))]
        if not runs:
            pytest.fail(
                f"llmperf: no baseline in {self.folder}; make it with --llmperf-update",
                pytrace=False,
            )
        return [stage for run in runs for stage in run.stages]

    def write(self, stages: Sequence[StageResult]) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.folder.parent, prefix=".new-") as new:
            for number, stage in enumerate(stages, 1):
                stage.save(Path(new, "baseline", str(number)))
            if self.folder.exists():
                rmtree(self.folder)
            Path(new, "baseline").rename(self.folder)


@contextmanager
def _told(advice: str = "") -> Generator[None, None, None]:
    """Fail the test with an error's own words, without a traceback through this plugin."""
    try:
        yield
    except LLMPerfError as error:
        said = f"llmperf: {error}; {advice}" if advice else f"llmperf: {error}"
        raise pytest.fail.Exception(said, pytrace=False) from None


@contextmanager
def _alone(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Wait until no other worker of pytest-xdist measures: they would measure each other."""
    if not hasattr(request.config, "workerinput"):
        yield
        return
    try:
        from filelock import FileLock
    except ImportError:
        pytest.fail(
            "llmperf: under pytest-xdist one worker measures at a time, which needs filelock; run: "
            "pip install 'llmperf-toolkit[pytest]'",
            pytrace=False,
        )
    temporary = request.getfixturevalue("tmp_path_factory").getbasetemp().parent
    with FileLock(temporary / "llmperf.lock"):
        yield


def _skip_invalid(stage: StageResult) -> None:
    if stage.verdict.status == "invalid":
        reasons = [reason for reason in stage.verdict.reasons if reason.status == "invalid"]
        said = "; ".join(f"{reason.code}: {reason.detail}" for reason in reasons)
        pytest.skip(f"llmperf: the numbers cannot be used: {said}")


def _keep_limits(stage: StageResult, limits: Sequence[PercentileLimit]) -> None:
    in_order = sorted(stage.timelines, key=lambda timeline: timeline.index)
    inside = samples(in_order, stage.summary.window)
    broken = [
        f"  {limit}: {seen} of the values lie beyond, {100 * limit.allowed_share:g} % may"
        for limit in limits
        if (seen := limit.exceeding(inside)).is_above(limit.allowed_share, chance=_CHANCE)
    ]
    if broken:
        said = "\n".join(["llmperf: the limit is broken, and that is no chance:", *broken])
        pytest.fail(f"{said}\n\n{stage!r}", pytrace=False)
