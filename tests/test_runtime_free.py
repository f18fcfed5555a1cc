"""The tests that make test-tflite-runtime leaves out: no code that they are named after computes with the runtime."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = {"ai_edge_litert", "cv2", "numpy"}


@pytest.fixture(scope="module")
def computing() -> set[str]:
    """Modules of the agent that import the runtime, NumPy or OpenCV, or one that does."""
    graph = grimp.build_graph(
        "agent", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    assert graph.modules >= RUNTIME
    return {module for each in RUNTIME for module in graph.find_downstream_modules(each)}


def test_folders_and_files_left_out_do_not_import_the_runtime(computing: set[str]) -> None:
    subjects = {subject for path in left_out() if (subject := subject_of(path))}
    assert len(subjects) > 15
    found = [subject for subject in subjects if any(f"{module}.".startswith(f"{subject}.") for module in computing)]
    assert found == []


def test_every_path_left_out_exists() -> None:
    assert [path for path in left_out() if not (ROOT / path).exists()] == []


def left_out() -> list[str]:
    command = ["make", "--dry-run", "--no-print-directory", "test-tflite-runtime"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return re.findall(r"--ignore (\S+)", printed)


def subject_of(path: str) -> str | None:
    """The module or package that the tests are named after, if there is one: agent.rest.form for rest/test_form.py."""
    name = path.removeprefix("tests/").removesuffix(".py").replace("test_", "")
    there = (ROOT / "agent" / f"{name}.py").is_file() or (ROOT / "agent" / name).is_dir()
    return f"agent.{name}".replace("/", ".") if there else None
