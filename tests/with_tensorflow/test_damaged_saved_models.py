"""Damaged SavedModels, tried by a real agent whose other model keeps serving: 20, or 300 with FAULTS=full."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest
from agents.damaged_saved_models import damage
from agents.running_agent import DIGITS, RunningAgent, wait_until
from end_to_end.uploads import Uploads

if TYPE_CHECKING:
    from pathlib import Path

_FULL = os.environ.get("FAULTS") == "full"
_COUNT = 300 if _FULL else 20
_S = 300  # for a trial, whose limit this is: a damaged model may hang

pytestmark = [pytest.mark.first, pytest.mark.timeout(_COUNT * _S)]


def test_damaged_saved_models_end_neither_the_agent_nor_the_other_model(saved_model: Path, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "made").mkdir()
    done = [damage(saved_model, tmp_path / "made" / str(number), number) for number in range(_COUNT)]
    with RunningAgent(tmp_path / "agent") as agent:
        agent.drop(DIGITS.read_bytes(), "steady")
        wait_until(lambda: agent.model("steady").get("serving"), what="the other model serves")
        with Uploads(agent, model="steady") as uploads:
            for number in range(_COUNT):
                (agent.models / f"m{number}").mkdir()
                shutil.move(tmp_path / "made" / str(number), agent.models / f"m{number}" / "1")
            for number, what in enumerate(done):
                wait_until(partial(_is_decided, agent, f"m{number}"), timeout_s=2 * _S, what=what)
            uploads.wait_for_more(20)
        assert agent.is_running()
        outcomes = [agent.rejection(f"m{number}") or "it serves" for number in range(_COUNT)]
        assert uploads.failures == []
        assert len(uploads.served) == 1
        assert sum(outcome == "it serves" for outcome in outcomes) < _COUNT / 2
        assert [outcome for outcome in outcomes if "report this error" in outcome] == []
        for what, outcome in zip(done, outcomes, strict=True):
            print(f"{what}: {outcome}")


def _is_decided(agent: RunningAgent, name: str) -> bool:
    assert agent.is_running(), agent.log
    model = agent.model(name)
    return bool(model.get("rejection") or model.get("serving"))
