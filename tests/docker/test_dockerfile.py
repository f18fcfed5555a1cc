"""Lints the Dockerfile; tests/system/test_image.py runs its steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from system.dockerfile import context, copied

_DOCKERFILE = Path(__file__).parents[2] / "deploy/docker/Dockerfile"
_HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(not _HADOLINT.exists(), reason="hadolint has no wheel for this machine")
def test_hadolint_finds_no_problem() -> None:
    answer = subprocess.run([_HADOLINT, _DOCKERFILE], check=False, capture_output=True, text=True)
    assert answer.stdout + answer.stderr == ""


def test_the_build_context_contains_only_the_files_that_are_copied() -> None:
    assert set(context(_DOCKERFILE)) == copied(_DOCKERFILE)
