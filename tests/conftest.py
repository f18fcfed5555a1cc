"""Skips tests whose tools or files this machine lacks; in CI such a test fails instead."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from needs import need

if TYPE_CHECKING:
    from collections.abc import Generator

SHARED = Path(__file__).resolve().parents[2] / "shared"
ASSETS, PROTOCOLS, REPORTS = SHARED / "assets", SHARED / "protocols", SHARED / "reports"

_NEEDS = {
    "assets": (ASSETS.is_dir(), "the real models of ../shared/assets are missing"),
    "minisign": (shutil.which("minisign") is not None, "minisign is not installed: apt install minisign"),
    "mosquitto": (
        shutil.which("mosquitto") is not None,
        "mosquitto is not installed: apt install mosquitto",
    ),
    "protocols": (PROTOCOLS.is_dir(), "the descriptions of ../shared/protocols are missing"),
    "reports": (REPORTS.is_dir(), "the models of ../shared/reports are missing"),
    "prometheus": (shutil.which("promtool") is not None, "prometheus is not installed: apt install prometheus"),
}


# A shell starts its background jobs with Ctrl-C ignored, as .ci/run does, and they pass that on to what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

with contextlib.suppress(ImportError):  # the environment of make test-home-assistant does not have it
    from hypothesis import settings

    settings.load_profile("ci")  # the same examples in every run, no deadline


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A process that starts a slow file last keeps all others waiting."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (there, reason) in _NEEDS.items():
        if item.get_closest_marker(marker) is not None:
            need(there, reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Makes logged file names valid UTF-8, because pytest-xdist can send no other reports."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of published models and photos. Mark tests that use it `assets`."""
    return ASSETS


@pytest.fixture(scope="session")
def reports() -> Path:
    """The folder of small models from public bug reports. Mark tests that use it `reports`."""
    return REPORTS


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the agent does."""
    return "asyncio"
