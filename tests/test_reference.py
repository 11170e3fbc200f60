"""The reference pages say what the code does now."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.reference import PAGES, ROOT


@pytest.mark.parametrize("page", PAGES)
def test_a_reference_page_is_what_the_code_would_write_now(page: str) -> None:
    written = Path(ROOT, "docs", "reference", f"{page}.md").read_text(encoding="utf-8")
    assert written == PAGES[page](), "run `make reference`"
