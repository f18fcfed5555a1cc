"""Fixtures of the tests in a real browser: the distribution's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

import pytest
from needs import need
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

_WAIT_MS = 20_000
_NOT_LOADED = "Failed to load resource"  # the browser's own message for each answer that is an error

expect.set_options(timeout=_WAIT_MS)


class Look(Protocol):
    def __call__(self, url: str, *, errors: bool = False, **context: Any) -> Page:
        """Opens the URL in a browser of its own; `errors`: requests may be refused or fail."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium")
    need(found, "chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(chromium: Browser) -> Iterator[Look]:
    """Afterward, fails if a page logged an error, broke its policy, or asked another host for anything."""
    wrong: list[str] = []
    contexts = []

    def open_page(url: str, *, errors: bool = False, **options: Any) -> Page:
        context = chromium.new_context(locale="en-US", timezone_id="UTC", **options)
        contexts.append(context)
        host = url.split("/")[2]

        def logged(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not (errors and message.text.startswith(_NOT_LOADED)):
                wrong.append(message.text)

        def asked(request: Request) -> None:
            if not request.url.startswith((f"http://{host}/", "blob:", "data:")):
                wrong.append(request.url)

        page = context.new_page()
        page.set_default_timeout(_WAIT_MS)
        page.on("console", logged)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", asked)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
