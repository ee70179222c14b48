"""The page about containers says what is so."""

import re
from pathlib import Path

import pytest

from llmperf_core import target_of
from llmperf_local.container import ENGINES, Container
from llmperf_local.container.backend import _OF_CONTAINER, _OF_SERVER

PAGE = (Path(__file__).parents[3] / "docs" / "local.md").read_text("utf-8")
URLS = sorted(set(re.findall(r"(?:bench '?)(docker:[^\s'`]+)", PAGE)))


@pytest.mark.parametrize("url", URLS)
def test_its_urls_name_targets(url: str) -> None:
    """Each can be given to the command line as it is."""
    assert target_of(url).name


def test_it_names_every_setting_and_engine() -> None:
    """What can be said is on the page."""
    missing = [name for name in (*_OF_SERVER, *_OF_CONTAINER, *ENGINES) if f"`{name}`" not in PAGE]

    assert missing == []


def test_its_engine_of_ones_own_works() -> None:
    """Its last example makes a target."""
    *_, source = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(source, "local.md", "exec"), names)  # noqa: S102 -- our own source

    assert isinstance(names["target"], Container)
