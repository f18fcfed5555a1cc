"""Needs: skips a test whose tool or file this machine lacks; in CI such a test fails instead."""

from __future__ import annotations

import os

import pytest


def need(what: object, otherwise: str) -> None:
    """`what` is false if it is missing; `otherwise` says that, and how to install it."""
    if not what:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run every test, and {otherwise}.", pytrace=False)
        pytest.skip(otherwise)
