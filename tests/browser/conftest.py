"""Chromium, driven by Playwright, with nothing but this machine to talk to."""

from __future__ import annotations

from collections.abc import Iterator
import shutil
from typing import Any

import pytest


_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium: install it")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=list(_OPTIONS))
        yield chromium
        chromium.close()


class Window:
    """A page of the browser that keeps what goes wrong on it.

    Args:
        browser:
            Of Playwright.
        options:
            Of its ``new_page``.
    """

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(20_000)
        self.errors: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.errors.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@pytest.fixture
def open_window(browser: Any) -> Iterator[Any]:
    """Makes windows; the test fails if one has an error in its console."""
    windows: list[Window] = []

    def make(**options: Any) -> Any:
        windows.append(Window(browser, **options))
        return windows[-1].page

    yield make
    errors = [error for window in windows for error in window.errors]
    for window in windows:
        window.page.close()
    assert errors == []
