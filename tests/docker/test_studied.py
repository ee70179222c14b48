"""The study file of `tests/studies/alike.py` on a server in a container."""

from pathlib import Path

import pytest

from tests.docker.image import IMAGE
from tests.studies.alike import assert_whole, studied

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_host", "deadline")]


def test_only_the_line_of_the_targets_differs(tmp_path: Path) -> None:
    """One container for all cells; it is removed afterwards."""
    assert_whole(studied(tmp_path, f"docker:works?image={IMAGE}&gpus=none&cache=none"))
