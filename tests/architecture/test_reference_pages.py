"""Every package that exports has a page in the reference, and each page is on the site."""

from pathlib import Path

import pytest

from tests.architecture.test_exports import WITH_EXPORTS

ROOT = Path(__file__).parents[2]
SITE = (ROOT / "mkdocs.yml").read_text("utf-8")


@pytest.mark.parametrize("package", WITH_EXPORTS)
def test_what_is_exported_is_in_the_reference(package: str) -> None:
    """Its page is written from the docstrings, and the site leads there."""
    page = ROOT / "docs" / "reference" / f"{package}.md"
    assert f"\n::: {package}\n" in page.read_text("utf-8")
    assert f"reference/{package}.md" in SITE


def test_the_site_leads_to_every_page() -> None:
    """A page that nobody finds is none."""
    pages = (path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
    assert [str(page) for page in pages if f": {page}" not in SITE] == []
