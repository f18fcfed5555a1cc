"""inspect, classify and bench accept the folder of a SavedModel."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from agents.saved_models import COLORS, write_saved_model

from agent.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def edge_agent(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command in this process; returns its exit code and output."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        return int(end.value.code or 0), capfd.readouterr().out

    return run


@pytest.fixture
def picture(tmp_path: Path, red: bytes) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(red)
    return path


def test_inspect_shows_signatures_and_files_and_runs_the_trial(
    edge_agent: Callable[..., tuple[int, str]], saved_model: Path
) -> None:
    code, out = edge_agent("inspect", saved_model, "--json")
    document = json.loads(out)
    assert (code, document["serves_here"], document["reason"]) == (0, True, None)
    assert document["labels"] == list(COLORS)
    assert document["signatures"] == [
        "serving_default takes image: float32 ? x 16 x 16 x 3 and returns scores: float32 ? x 4"
    ]
    assert "variables/variables.index" in document["files"]
    assert document["runtime"].startswith("TensorFlow 2.")
    assert document["trial"]["invoke_ms"] > 0


def test_inspect_says_what_an_incomplete_folder_lacks(
    edge_agent: Callable[..., tuple[int, str]], saved_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved_model, tmp_path / "1")
    (tmp_path / "1/variables/variables.index").unlink()
    code, out = edge_agent("inspect", tmp_path / "1", "--json")
    assert code == 1
    assert "variables/variables.index is missing" in json.loads(out)["reason"]


def test_classify_and_bench_compute_with_tensorflow(
    edge_agent: Callable[..., tuple[int, str]], tmp_path: Path, picture: Path
) -> None:
    model = write_saved_model(tmp_path / "1", labels=None)
    (tmp_path / "1.txt").write_text("\n".join(COLORS))
    (tmp_path / "1.yaml").write_text("mean: 0\nstd: 1\n")
    code, out = edge_agent("classify", model, picture, "--json")
    assert code == 0
    assert json.loads(out)[0]["categories"][0]["label"] == "red"
    code, out = edge_agent("bench", model, picture, "--rounds", "2", "--json")
    assert code == 0
    assert json.loads(out)["runtime"].startswith("TensorFlow 2.")
