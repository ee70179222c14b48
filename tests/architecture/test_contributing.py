"""The example of CONTRIBUTING.md is a backend that works."""

import re
from pathlib import Path

import pytest

from llmperf_core.errors import TargetUrlError
from llmperf_core.target import Backend, Options, Prompt

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def example() -> Backend:
    """Return what the entry point of the example yields."""
    (source,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL)
    namespace: dict[str, Backend] = {}
    exec(compile(source, str(GUIDE), "exec"), namespace)  # noqa: S102 -- our own source
    return namespace["backend"]


async def test_the_example_opens_what_its_url_names() -> None:
    """Its target can be opened, and the endpoint can write a request."""
    target = example().target("lab:gpu7", Options(model="llama"))

    async with target.open() as endpoint:
        request = endpoint.codec.request(Prompt(text="Hello"))

    assert list(example().schemes) == ["lab"]
    assert (target.name, endpoint.base_url) == ("lab:gpu7", "http://gpu7.lab.example:8000")
    assert b"llama" in request.body


def test_the_example_refuses_what_names_nothing() -> None:
    """A URL that it cannot understand is an error of the user."""
    with pytest.raises(TargetUrlError, match="name a host of the lab"):
        example().target("lab:", Options())
