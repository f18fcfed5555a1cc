from __future__ import annotations

import pytest
from documents import REPOSITORY

from docs.reference_generator.pages import PAGES


@pytest.mark.parametrize("path", PAGES)
def test_generated_page_is_current(path: str) -> None:
    """If it is not, run `make reference`."""
    assert (REPOSITORY / path).read_text(encoding="utf-8") == PAGES[path]()
