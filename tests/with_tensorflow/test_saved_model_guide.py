"""Runs the commands of docs/how-to/saved-model.md against a real agent."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from agents.running_agent import DIGITS, RunningAgent
from agents.saved_models import write_saved_model
from documents import SAVED_MODEL_GUIDE, blocks, lines_not_printed, run
from needs import need

pytestmark = [pytest.mark.first, pytest.mark.minisign, pytest.mark.timeout(900)]

_ELSEWHERE = ("sudo ", ".venv/bin/python -m pip ")  # tests/system/test_tensorflow.py; pip is not ours


def test_documented_commands_print_the_documented_output(tmp_path: Path) -> None:
    need(shutil.which("minisign"), "minisign is not on PATH: apt install minisign")
    programs = Path(sys.executable).parent
    (tmp_path / ".venv-converter").mkdir()
    (tmp_path / ".venv-converter/bin").symlink_to(programs)
    write_saved_model(tmp_path / "birds" / "7", labels=None)
    (tmp_path / "class-names.txt").write_text("robin\nwren\nfinch\nmacaw\n")
    shutil.copy(DIGITS, tmp_path / "birds.tflite")
    (tmp_path / "agent").mkdir()
    with RunningAgent(tmp_path / "agent") as agent:
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "EDGE_AGENT_HTTP__PORT": str(agent.port)}
        printed = ""
        for block in blocks(SAVED_MODEL_GUIDE):
            if block.kind == "text":
                assert list(lines_not_printed(block, printed)) == [], printed
            if block.kind != "sh":
                continue
            printed = ""
            for command in block.lines:
                if command.startswith(_ELSEWHERE):
                    continue
                line = command.replace("/var/lib/edge-agent/models", str(agent.models))
                done = run(line, tmp_path, environment, timeout_s=300)
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{agent.log}"
                printed += f"{done.stdout}\n{done.stderr}\n"
        assert agent.model("birds")["serving"]["version"] == "8"
