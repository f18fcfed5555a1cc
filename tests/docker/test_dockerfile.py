"""The Dockerfile as its linter judges it; tests/system/test_image.py does its steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from system.dockerfile import context, copied

_DOCKERFILE = Path(__file__).parents[2] / "deploy/docker/Dockerfile"
_HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(not _HADOLINT.exists(), reason="hadolint has no wheel for this machine")
def test_hadolint_has_nothing_to_say() -> None:
    answer = subprocess.run([_HADOLINT, _DOCKERFILE], check=False, capture_output=True, text=True)
    assert answer.stdout + answer.stderr == ""


def test_a_builder_sees_what_it_copies_and_nothing_else() -> None:
    assert set(context(_DOCKERFILE)) == copied(_DOCKERFILE)
