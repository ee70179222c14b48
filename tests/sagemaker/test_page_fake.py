"""What the page about the fake shows works as it is shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "fake_sagemaker.md"
_SHOWN = """
    print(stream.count(b"data:"), fake.usd > 0, fake.usd_per_h, fake.holds())
"""


def test_its_code_runs() -> None:
    """The block deploys, streams five tokens and shows a bill."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    environment = {name: value for name, value in os.environ.items() if name != "AWS_PROFILE"}
    done = subprocess.run(
        [sys.executable, "-c", block + _SHOWN],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )

    held = {"Model": ["llama"], "EndpointConfig": ["llama"], "Endpoint": ["llama"]}
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"5 True 1.515 {held}\n"
