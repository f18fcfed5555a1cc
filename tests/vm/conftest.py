"""Builds the image that every machine boots, and prints the measurements at the end of the run."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from system.measured import note, pytest_configure, pytest_terminal_summary
from system.root import cache, skip_or_fail
from vm.image import Image, make_image
from vm.machine import Machine, missing_for_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.measured import Note

__all__ = ["note", "pytest_configure", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    if reason := missing_for_machine():
        skip_or_fail(reason)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".image-") as folder:
        try:
            yield make_image(Path(folder))
        except FileNotFoundError as error:
            skip_or_fail(f"dist/ has no {error}: run make test-vm")
        except subprocess.CalledProcessError as error:
            skip_or_fail(f"the root cannot be created: {error}")


@pytest.fixture(scope="session")
def machine(image: Image, note: Note, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Shared by most tests, since a boot takes long. Its changes are discarded when it ends."""
    log = tmp_path_factory.mktemp("machine") / "console.log"
    with Machine(image, log, drives=[f"file={image.disk},snapshot=on"]) as machine:
        begun, ready = (int(machine.show(f"{key}TimestampMonotonic")) for key in ("ExecMainStart", "ActiveEnter"))
        note("from start to ready during boot", f"{(ready - begun) / 1e6:.0f} s")
        yield machine
