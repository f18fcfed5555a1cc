"""Every command of the documents that is the converter's runs here, one after the other."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from documents import DOCUMENTS, commands, run


@pytest.fixture
def desk(tmp_path: Path, small_saved_model: Path, color_images: Path) -> Path:
    """A folder with a trained model, its images and a password, as the documents name them."""
    (tmp_path / ".venv-converter").mkdir()
    (tmp_path / ".venv-converter/bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / "flowers").mkdir()
    for name, folder in (("saved_model", small_saved_model), ("train", color_images), ("test", color_images)):
        shutil.copytree(folder, tmp_path / "flowers" / name)
    (tmp_path / "password").write_text("wren\n")
    return tmp_path


@pytest.mark.timeout(300)  # TensorFlow starts anew for each
@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed: apt install unzip")
def test_every_command_of_the_documents_works(desk: Path) -> None:
    lines = dict.fromkeys(line for document in DOCUMENTS for line in commands(document))  # each once
    ours = [line for line in lines if line.startswith((".venv-converter/", "unzip"))]
    assert len(ours) > 5
    for line in ours:
        answer = run(line, desk)
        assert answer.returncode == 0, f"{line}\n{answer.stdout}\n{answer.stderr}"
