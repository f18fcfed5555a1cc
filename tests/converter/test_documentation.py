"""Runs every command of the documents that belongs to the converter, one after the other."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from documents import DOCUMENTS, blocks, lines_not_printed, run

pytestmark = pytest.mark.long


@pytest.fixture
def workspace(tmp_path: Path, small_saved_model: Path, color_images: Path) -> Path:
    """A folder with a trained model, its images, a finished file and a password, as the documents name them."""
    (tmp_path / ".venv-converter").mkdir()
    (tmp_path / ".venv-converter/bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / "flowers").mkdir()
    for name, folder in (("saved_model", small_saved_model), ("train", color_images), ("test", color_images)):
        shutil.copytree(folder, tmp_path / "flowers" / name)
    shutil.copy(Path(__file__).parents[2] / "demo/digits.tflite", tmp_path / "birds.tflite")
    (tmp_path / "password").write_text("wren\n")
    return tmp_path


@pytest.mark.timeout(300)  # TensorFlow starts again for each command
@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed: apt install unzip")
def test_documented_commands_print_the_documented_output(workspace: Path) -> None:
    count = 0
    for document in DOCUMENTS:
        output = ""
        for block in blocks(document):
            if block.kind == "text" and output:
                assert list(lines_not_printed(block, output)) == [], f"{document}\n{output}"
            if block.kind != "sh":
                continue
            output = ""
            for line in block.lines:
                if line.startswith((".venv-converter/", "unzip")):
                    answer = run(line, workspace)
                    assert answer.returncode == 0, f"{line}\n{answer.stdout}\n{answer.stderr}"
                    output += f"{answer.stdout}\n{answer.stderr}\n"
                    count += 1
    assert count > 5
