"""The same study file on simulated and on real servers of this machine."""

from pathlib import Path

import pytest

from tests.studies.alike import assert_whole, studied

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.mark.parametrize(
    "url",
    [
        "sim:llama-2-7b@ml.g5.12xlarge?decode=0.1&prefill=0.1",
        pytest.param("cpu:tiny?threads=1&slots=2", marks=pytest.mark.llm),
    ],
)
def test_only_the_line_of_the_targets_differs(url: str, tmp_path: Path) -> None:
    """Brought up once, measured, taken down; the docker tests do the same in a container."""
    assert_whole(studied(tmp_path, url))
