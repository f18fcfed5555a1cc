"""What the machine must have for some tests; in CI nothing may be missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"

_NEEDS = {
    "assets": (ASSETS.is_dir(), "the real models of ../shared/assets are not here"),
    "minisign": (shutil.which("minisign") is not None, "minisign is not installed: apt install minisign"),
    "mosquitto": (
        shutil.which("mosquitto") is not None,
        "mosquitto is not installed: apt install mosquitto",
    ),
    "prometheus": (shutil.which("promtool") is not None, "prometheus is not installed: apt install prometheus"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, (there, reason) in _NEEDS.items():
            if item.get_closest_marker(marker) is not None and not there:
                if os.environ.get("CI") == "true":
                    raise pytest.UsageError(f"CI must run every test, and {reason}.")
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of published models and photos; tests that use it are marked `assets`."""
    return ASSETS


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the agent does."""
    return "asyncio"
