"""Runs every command of the documents that belongs to the converter, one after the other."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
from conversions import QUIET
from documents import DOCUMENTS, REPOSITORY, WITH_TENSORFLOW, blocks, lines_not_printed, run

if TYPE_CHECKING:
    from edge_convert import EdgeConvert

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings(*QUIET)]

_COMMAND = ".venv-converter/bin/edge-convert"


@pytest.fixture
def workspace(tmp_path: Path, small_saved_model: Path, color_images: Path) -> Path:
    """A folder with a model, images, a finished file, a recipe and a password, as the documents name them."""
    (tmp_path / "flowers").mkdir()
    for name, folder in (("saved_model", small_saved_model), ("train", color_images), ("test", color_images)):
        shutil.copytree(folder, tmp_path / "flowers" / name)
    _write_mixtures(tmp_path / "flowers/other", color_images)
    shutil.copy(Path(__file__).parents[2] / "demo/digits.tflite", tmp_path / "birds.tflite")
    (tmp_path / "password").write_text("wren\n")
    shutil.copytree(small_saved_model, tmp_path / "exports/flowers/1764482400")
    (tmp_path / "models").mkdir()
    for block in blocks(REPOSITORY / "docs/how-to/watch.md"):
        if block.text.startswith("# watch.yaml\n"):
            (tmp_path / "watch.yaml").write_text(block.text)
    return tmp_path


def _write_mixtures(folder: Path, color_images: Path) -> None:
    """Pictures of things that the model does not know: each is half blue and half green."""
    folder.mkdir()
    for path in sorted((color_images / "blue").iterdir()):
        blue, green = cv2.imread(str(path)), cv2.imread(str(color_images / "green" / path.name))
        assert cv2.imwrite(str(folder / path.name), cv2.addWeighted(blue, 0.5, green, 0.5, 0))


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed: apt install unzip")
def test_documented_commands_print_the_documented_output(
    workspace: Path, edge_convert: EdgeConvert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here edge-convert runs in one process; tests/converter/test_cli.py starts it as a command."""
    monkeypatch.chdir(workspace)
    count = 0
    for document in [document for document in DOCUMENTS if document not in WITH_TENSORFLOW]:
        output = ""
        for block in blocks(document):
            if block.kind == "text" and output:
                assert list(lines_not_printed(block, output)) == [], f"{document}\n{output}"
            if block.kind != "sh":
                continue
            output = ""
            for line in block.lines:
                program, *arguments = shlex.split(line)
                if program == _COMMAND:
                    outcome = edge_convert(*arguments)
                    code, printed = outcome.code, f"{outcome.out}\n{outcome.err}\n"
                elif program == "unzip":
                    listed = run(line, workspace)
                    code, printed = listed.returncode, f"{listed.stdout}\n{listed.stderr}\n"
                else:
                    continue
                assert code == 0, f"{line}\n{printed}"
                output += printed
                count += 1
    assert count > 5
    assert (workspace / "models/flowers/1764482400/model.tflite.minisig").is_file()
