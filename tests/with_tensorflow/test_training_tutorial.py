"""Follows docs/tutorial/own-model.md: train, convert, sign, watch, drop, and the label over MQTT."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from agents.running_agent import AgentProcess
from documents import TRAINING_TUTORIAL, blocks, lines_not_printed, run
from peers.mosquitto import Mosquitto
from trainings import write_shapes

pytestmark = [pytest.mark.first, pytest.mark.mosquitto, pytest.mark.timeout(900)]

_CLASSES = {"disk": "cup", "grid": "plate", "stripes": "empty"}
_ELSEWHERE = "make "  # .ci/run


def test_tutorial_leads_from_photos_to_a_label(tmp_path: Path) -> None:
    _prepare(tmp_path)
    printed = ""
    with Mosquitto(tmp_path) as broker, ExitStack() as agents:
        for block in blocks(TRAINING_TUTORIAL):
            text = block.text.replace("1883", str(broker.port)).replace("localhost", "127.0.0.1")
            if block.kind == "yaml":
                _write(text, tmp_path)
            if block.kind == "text":
                assert list(lines_not_printed(block, printed)) == [], printed
            if block.kind != "sh":
                continue
            printed = ""
            for command in text.splitlines():
                if "edge-agent run" in command:
                    agents.enter_context(AgentProcess(tmp_path / command.split()[-1]))
                elif not command.startswith(_ELSEWHERE):
                    done = run(command, tmp_path, timeout_s=600)
                    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
                    printed += f"{done.stdout}\n{done.stderr}\n"
    assert (tmp_path / "models/table/1/model.tflite.minisig").is_file()


def _prepare(folder: Path) -> None:
    """The environments of a checkout, and photos of shapes in place of those of a table."""
    for environment in (".venv", ".venv-converter"):
        (folder / environment).mkdir()
        (folder / environment / "bin").symlink_to(Path(sys.executable).parent)
    photos = write_shapes(folder / "photos", per_class=24)
    for shape, label in _CLASSES.items():
        (photos / shape).rename(photos / label)


def _write(text: str, folder: Path) -> None:
    """A file whose name is in its first line; an agent gets a free port."""
    name = text.partition("\n")[0].removeprefix("# ")
    port = "http: {port: 0}\n" if "cameras:" in text else ""
    (folder / name).write_text(text + port)
