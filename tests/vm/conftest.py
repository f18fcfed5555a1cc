"""The image that every machine boots, made once, and what was measured, told at the end."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from system.root import cache, give_up
from vm.image import Image, make_image
from vm.machine import Machine, why_there_is_no_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Note = Callable[[str, str], None]

_LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LINES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("measured in the machine")
    for line in config.stash[_LINES]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def note(request: pytest.FixtureRequest) -> Note:
    """Tells what was measured: docs/reliability.md and docs/performance.md have it."""
    lines = request.config.stash[_LINES]
    return lambda what, measured: lines.append(f"{what}: {measured}")


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    if reason := why_there_is_no_machine():
        give_up(reason)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".image-") as folder:
        try:
            yield make_image(Path(folder))
        except FileNotFoundError as error:
            give_up(f"dist/ has no {error}: say make test-vm")
        except subprocess.CalledProcessError as error:
            give_up(f"no root can be made here: {error}")


@pytest.fixture(scope="module")
def machine(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Whose changes are gone when it ends."""
    log = tmp_path_factory.mktemp("machine") / "console.log"
    with Machine(image, log, drives=[f"file={image.disk},snapshot=on"]) as machine:
        yield machine
