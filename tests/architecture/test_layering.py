"""The arrows of the architecture: who may import whom."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE, BACKENDS = "llmperf_core", ("llmperf_local", "llmperf_sagemaker")

WORDS = {"errors", "units", "timeline", "target", "telemetry", "bringup", "serving"}
STEPS = {"workload", "load", "wire", "run", "judge", "decide", "show"}
FRONT = {
    "backends",
    "benchmark",
    "comparison",
    "gate",
    "importers",
    "instrument",
    "recommendation",
    "report",
    "results",
    "studies",
    "traces",
}

# A part of core → the other parts that it may import. `facade` is `llmperf_core` itself.
ARROWS: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "units": set(),
    "timeline": {"errors", "units"},
    "telemetry": set(),
    "target": {"errors", "units", "timeline"},
    "bringup": {"errors", "units", "target"},
    "serving": set(),
    # What backends share that start what they measure.
    "signs": set(),
    "lease": set(),
    "interrupts": set(),
    "workload": WORDS,
    "load": WORDS,
    "wire": WORDS,
    "run": {*WORDS, "workload", "load", "wire", "judge"},
    "judge": {"errors", "units", "timeline", "telemetry", "load"},
    "decide": {*WORDS, "workload", "load", "run", "judge"},
    "show": {*WORDS, "load", "judge", "decide"},
    "backends": {"errors", "target"},
    "traces": {"errors", "units", "timeline", "load", "run"},
    "results": {*WORDS, "workload", "load", "run", "judge", "decide", "show"},
    "benchmark": {*WORDS, *STEPS, "backends", "results", "interrupts"} - {"wire"},
    # The library checks itself against the server that `testing` ships, so that stands below it.
    "testing": {*WORDS, *STEPS},
    "instrument": {*WORDS, "load", "wire", "run", "judge", "show", "testing"},
    "comparison": {*WORDS, "load", "judge", "show", "results"},
    "gate": {*WORDS, "judge", "results", "comparison"},
    "recommendation": {*WORDS, "load", "judge", "decide", "show", "results", "comparison"},
    "studies": {*WORDS, *STEPS, "backends", "benchmark", "results", "traces", "recommendation"}
    - {"wire"},
    "importers": {*WORDS, "load", "run", "judge", "results"},
    "report": {
        *WORDS,
        *("load", "run", "judge", "show", "results", "comparison", "recommendation"),
    },
    "facade": {*WORDS, *STEPS, *FRONT},
    "pytest_plugin": {*WORDS, *STEPS, *FRONT, "facade", "testing"},
    "cli": {*WORDS, *STEPS, *FRONT, "facade", "testing"},
    "__main__": {"cli"},
}
EVERYBODY_MAY = {"_version"}
BACKENDS_MAY_NOT = {"cli", "pytest_plugin"}

# What is computed can be computed again from a stored run: no clock, no socket, no process.
PURE = {*WORDS, "workload", "load", "judge"}
IMPURE_MODULES = {
    *("anyio", "asyncio", "trio", "uvloop", "threading", "multiprocessing", "concurrent"),
    *("time", "os", "signal", "subprocess"),
    *("socket", "select", "selectors", "ssl", "httptools", "http", "urllib"),
}
# `target` names httpx's types for authentication and transports, and calls nothing of it.
IMPURE_FOR = {part: IMPURE_MODULES | {"httpx"} for part in PURE - {"target"}} | {
    "target": IMPURE_MODULES
}

# So does a simulated server in virtual time; what plays it in real time stands beside these.
PURE_IN_LOCAL = {
    f"llmperf_local.sim.{part}"
    for part in ("cache", "hardware", "options", "published", "requests", "scheduler", "virtual")
}


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of everything that a module's source imports.

    Imports inside functions and under TYPE_CHECKING count too, and so does `import_module` of a
    literal. `package` is what relative imports are relative to.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                origin = resolve_name("." * node.level + (node.module or ""), package)
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                if name in {"import_module", "__import__"} and node.args:
                    literal = node.args[0]
                    if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                        yield node.lineno, literal.value


def top(dotted: str) -> str:
    """Return the package that a dotted name belongs to."""
    return dotted.partition(".")[0]


def part_of(dotted: str) -> str:
    """Return the part of core that a dotted name of `llmperf_core` belongs to."""
    part = top(dotted.partition(".")[2])
    is_module = (ROOT / CORE / part).is_dir() or (ROOT / CORE / f"{part}.py").is_file()
    return part if part in ARROWS or (part and is_module) else "facade"


def may_import(module: str, dotted: str) -> bool:
    """Return whether a module of ours may import that name."""
    owner, other = top(module), top(dotted)
    if owner in BACKENDS:
        wrong_core = other == CORE and part_of(dotted) in BACKENDS_MAY_NOT
        if module in PURE_IN_LOCAL and other in IMPURE_MODULES | {"httpx"}:
            return False
        return other == owner or (other not in BACKENDS and not wrong_core)
    part = part_of(module)
    if other == CORE:
        return part_of(dotted) in ARROWS.get(part, set()) | EVERYBODY_MAY | {part}
    return other not in {*BACKENDS, *IMPURE_FOR.get(part, ())}


def breaches(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Return a line for each import in the source that no arrow allows."""
    package = module if is_package else module.rpartition(".")[0]
    return [
        f"{module}:{line} imports {dotted}"
        for line, dotted in imported(source, package)
        if not may_import(module, dotted)
    ]


def our_files() -> list[Path]:
    """Return every module of the three packages, relative to the repository's root."""
    files = (path for top in (CORE, *BACKENDS) for path in (ROOT / top).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in files)


@pytest.mark.parametrize("path", our_files(), ids=str)
def test_only_the_arrows_are_followed(path: Path) -> None:
    """No module imports what its place in the pipeline does not allow."""
    is_package = path.name == "__init__.py"
    module = ".".join((path.parent if is_package else path.with_suffix("")).parts)

    assert breaches((ROOT / path).read_text("utf-8"), module, is_package=is_package) == []


def test_what_has_to_be_pure_exists() -> None:
    """A module that is renamed does not slip out of the list."""
    modules = {".".join(path.with_suffix("").parts) for path in our_files()}

    assert modules >= PURE_IN_LOCAL


def test_every_part_of_core_has_a_row() -> None:
    """A new module or package of core needs a row: its place is a decision, not an accident."""
    parts = {path.parts[1].removesuffix(".py") for path in our_files() if path.parts[0] == CORE}

    assert parts - {"__init__"} <= set(ARROWS)


def test_the_arrows_have_no_cycle() -> None:
    """The parts can be put in an order in which each imports only earlier ones."""
    order = list(TopologicalSorter(ARROWS).static_order())

    assert order.index("timeline") < order.index("judge") < order.index("cli")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("llmperf_core.units", "from llmperf_core.errors import UsageError"),
        ("llmperf_core.timeline", "import llmperf_core.target"),
        ("llmperf_core.workload.fixed", "from llmperf_core.wire import Exchange"),
        ("llmperf_core.wire.transport", "from llmperf_core import load"),
        ("llmperf_core.judge.verdict", "from llmperf_core.run import Stage"),
        ("llmperf_core.judge.verdict", "import time"),
        ("llmperf_core.judge.verdict", "from asyncio import run"),
        ("llmperf_core.judge.verdict", "import os.path"),
        ("llmperf_core.judge.verdict", "from llmperf_core import bench"),
        ("llmperf_core.judge.verdict", "def late() -> None:\n    import socket"),
        ("llmperf_core.judge.verdict", "if TYPE_CHECKING:\n    from llmperf_core.run import Stage"),
        ("llmperf_core.judge.verdict", "from ..wire import Exchange"),
        ("llmperf_core.judge.verdict", "from .. import wire"),
        ("llmperf_core.judge.verdict", "importlib.import_module('httpx')"),
        ("llmperf_core.run.stage", "from llmperf_core.show import table"),
        ("llmperf_core.show.table", "from llmperf_core.run import Stage"),
        ("llmperf_core.testing.server", "from llmperf_core.cli import main"),
        ("llmperf_core.cli.main", "from llmperf_local.cpu import backend"),
        ("llmperf_core", "import llmperf_sagemaker"),
        ("llmperf_local.cpu", "import llmperf_sagemaker"),
        ("llmperf_sagemaker.deploy", "from llmperf_local import Container"),
        ("llmperf_local.cpu", "from llmperf_core.cli import main"),
        ("llmperf_local.sim.scheduler", "import time"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str) -> None:
    """Each kind of wrong arrow is found, wherever and however it is written."""
    assert len(breaches(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("llmperf_core.judge.verdict", "from llmperf_core.load import ClosedLoop"),
        ("llmperf_core.judge.verdict", "from llmperf_core.judge.metric import Metric"),
        ("llmperf_core.judge.verdict", "from .metric import Metric"),
        ("llmperf_core.judge.verdict", "import numpy as np"),
        ("llmperf_core.target", "import httpx"),
        ("llmperf_core.run.journal", "from llmperf_core._version import __version__"),
        ("llmperf_core.cli.main", "from llmperf_core import bench, wire"),
        ("llmperf_local.cpu", "from llmperf_core.target import Target"),
        ("llmperf_local.cpu", "from llmperf_local.server import Server"),
    ],
)
def test_an_allowed_import_is_let_through(module: str, source: str) -> None:
    """What the architecture allows is no breach."""
    assert breaches(source, module) == []


def test_a_relative_import_of_a_package_starts_at_itself() -> None:
    """In an `__init__`, one dot is the package; in a module, it is the package around it."""
    source = "from . import wire"

    assert list(imported(source, "llmperf_core")) == [(1, "llmperf_core.wire")]
    assert breaches(source, "llmperf_core.judge", is_package=True) == []
