"""The page on verdicts knows every reason, and no other."""

import re
from pathlib import Path

from tests.verdicts.test_causes import codes_of

ROOT = Path(__file__).parents[1]


def test_every_reason_is_explained() -> None:
    """A reader of a report finds its code on the page."""
    page = (ROOT / "docs" / "verdicts.md").read_text("utf-8")
    given = {
        code
        for path in (ROOT / "llmperf_core" / "judge").glob("*.py")
        for _, code in codes_of(path)
    }
    explained = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    of_calibration = set(re.findall(r"`(\w+)`", page.partition("## Of a calibration")[2]))
    assert len(given) > 25
    assert explained <= given
    assert given - explained <= of_calibration
