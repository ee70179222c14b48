"""What continuous integration runs, and nothing else.

`nox` runs lint, typing and tests, each in an environment of its own. The other sessions need
something that a clean machine does not have, or take long; `nox -l` lists them.
"""

import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"  # the first with `download_python`
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

PYPROJECT = nox.project.load_toml("pyproject.toml")
# The interpreter that runs nox comes first and is always there, so no run can skip every test.
PYTHONS = dict.fromkeys(
    [f"{sys.version_info.major}.{sys.version_info.minor}", *nox.project.python_versions(PYPROJECT)]
)
# In per cent, branches included. It only ever rises.
COVERAGE_FLOOR = 96
# Most tests wait for a server or a process: one after the other, they take three times as long.
WORKERS = "--numprocesses=4"
# Marked tests that need what a clean machine does not have.
ELSEWHERE = "aws or gpu or pull or docker"


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def install_project(session: nox.Session, *requirements: str) -> None:
    """Install the project in place, with the extras that tests use and what else is required."""
    session.install("-e", ".[cpu,frames,local,plots,sagemaker]", *requirements)
    # Where the environment forbids it, each process that a test starts would compile the project.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""


def run_tests(session: nox.Session, *pytest: str) -> None:
    """Run what needs nothing but this machine, and then what no measurement may run beside."""
    session.run(*pytest, WORKERS, "-m", f"not (starving or {ELSEWHERE})")
    session.run(*pytest, "-m", "starving")


@nox.session
def lint(session: nox.Session) -> None:
    """Check format and style; changes nothing."""
    session.install(*group("lint"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types inside, and that a user sees a type for every public name."""
    install_project(session, *group("typing"))
    session.run("mypy")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "llmperf_core")


@nox.session(python=list(PYTHONS))
def tests(session: nox.Session) -> None:
    """Run the tests. Arguments after `--` go to pytest."""
    install_project(session, *group("tests"))
    if session.posargs:
        session.run("pytest", WORKERS, *session.posargs)
    else:
        run_tests(session, "pytest")


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Run the tests with coverage, which takes half as long again, and hold the floor."""
    install_project(session, *group("tests"))
    session.env["COVERAGE_FILE"] = str(Path(session.create_tmp(), ".coverage").resolve())
    session.run("coverage", "erase")
    run_tests(session, "coverage", "run", "-m", "pytest")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--skip-covered", f"--fail-under={COVERAGE_FLOOR}")


@nox.session
def docker(session: nox.Session) -> None:
    """Run the tests that need a Docker engine; without one they are skipped, and say why.

    As root on Debian they bring up one of their own. With KILL_ROUNDS=2 in the environment, runs
    are killed at each moment in each way, twice: that takes five minutes.
    """
    install_project(session, *group("tests"))
    session.run("pytest", "-m", "docker and not (aws or gpu or pull)", *session.posargs)


@nox.session(default=False)
def live(session: nox.Session) -> None:
    """Run the tests that need an AWS account (this costs money), a GPU or an image registry."""
    install_project(session, *group("tests"))
    session.run("pytest", "-m", "aws or gpu or pull", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure the instrument itself: its time per token and its error."""
    session.install("-e", ".", *group("bench"))
    session.run("python", "benchmarks/wire.py", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site of the documentation, with the reference of the public names: build/site."""
    session.install("-e", ".[cpu,local,plots,sagemaker]", *group("docs"))
    # Its notice is of the future of the generator, and none of ours.
    session.run("mkdocs", "build", "--quiet", env={"NO_MKDOCS_2_WARNING": "1"})
