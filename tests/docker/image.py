"""An image of this very Python, with this project, made without a registry.

It holds the interpreter, the standard library, what the project needs to run, and the shared
libraries of all that, at the paths at which they are here.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path

from docker import APIClient
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
IMAGE = "llmperf-tests/tgi:3.3.5"
_HERE = Path("/llmperf")
PYTHON = str(Path(sys.executable).resolve())
TGI_SCRIPT, LLAMA_SCRIPT = f"{_HERE}/tgi_in_container.py", f"{_HERE}/llama_in_container.py"
_TOOLS = [Path("/bin/sh"), Path("/bin/cat")]
_NOT_NEEDED = {"site-packages", "test", "idlelib", "ensurepip", "lib2to3", "__pycache__", "tkinter"}


def build(url: str) -> None:
    """Import the image into the engine at the URL."""
    client = APIClient(url, timeout=300)
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for inside, path in _files().items():
                archive.add(path, inside, recursive=False)
        file.flush()
        client.import_image_from_file(
            file.name,
            repository=IMAGE.partition(":")[0],
            tag=IMAGE.partition(":")[2],
            changes=[
                f'ENTRYPOINT ["{PYTHON}", "-u", "{TGI_SCRIPT}"]',
                f"ENV PYTHONPATH={_HERE} PATH=/bin",
            ],
        )
    client.close()


def _files() -> dict[Path, Path]:
    """Return the files of the image, by their paths in it."""
    files = {path: path.resolve() for path in [Path(PYTHON), *_TOOLS, *_stdlib()]}
    files |= _packages()
    libraries = [path for path in files.values() if ".so" in path.name or path.stat().st_mode & 1]
    return files | {path: path.resolve() for path in _linked(libraries)}


def _stdlib() -> Iterator[Path]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    for path in _within(stdlib):
        if not path.relative_to(stdlib).parts[0].startswith("config-"):
            yield path


def _within(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not _NOT_NEEDED.intersection(path.relative_to(folder).parts):
            yield path


def _packages() -> dict[Path, Path]:
    """Return this project and all that it requires, and llama.cpp."""
    files = {
        _HERE / path.relative_to(ROOT): path
        for package in ("llmperf_core", "llmperf_local")
        for path in _within(ROOT / package)
    }
    files |= {_HERE / path.name: path for path in Path(__file__).parent.glob("*_in_container.py")}
    for name in _required({"llmperf-toolkit", "xllamacpp"}):
        for path in distribution(name).files or ():
            located = Path(str(path.locate()))
            # Of this project, which may be installed in place, what it says of itself. What an
            # installer has noted need not be there: folders of compiled files, for one.
            if located.is_file() and path.suffix not in (".pyc", ".pth") and path.parts[0] != "..":
                files[_HERE / path] = located
    return files


def _required(names: set[str]) -> set[str]:
    """Return the names with all that they require, extras left out."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name not in found:
                names.add(requirement.name)
    return found


def _linked(paths: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that the files are linked with."""
    said = subprocess.run(
        ["ldd", *map(str, paths)], check=False, capture_output=True, text=True
    ).stdout
    return {Path(os.path.normpath(path)) for path in re.findall(r"(/[^\s:()]+) \(0x", said)}
