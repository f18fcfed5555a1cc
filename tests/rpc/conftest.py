"""One event loop for all tests of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="module", autouse=True)
async def _loop_outlives_its_calls(anyio_backend: str) -> AsyncIterator[None]:
    """The loop ends with this fixture: gRPC may report the end of a canceled call to it after the end of the test."""
    yield  # noqa: PT022
