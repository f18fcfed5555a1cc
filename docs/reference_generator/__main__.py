"""Writes the generated pages of docs/reference/ and configs/agent.yaml: `make reference`."""

from __future__ import annotations

from docs.reference_generator.pages import PAGES, REPOSITORY

if __name__ == "__main__":
    for path, make in PAGES.items():
        (REPOSITORY / path).write_text(make(), encoding="utf-8")
