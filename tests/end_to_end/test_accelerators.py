"""A running agent with a GPU, which is SwiftShader: its answers, what it shows, and the loss of the GPU."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from agents import swiftshader
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, digit_shown, model_file
from faults.scrape import scraped

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long

_TRIED_S = 120  # a software GPU on a busy machine


def answer_of(agent: RunningAgent) -> str:
    """The label of the picture, whatever computes it."""
    answer = agent.post("/predict", content=digit_png())
    assert answer.status_code == 200, answer.text
    return str(answer.json()["categories"][0]["label"])


def processes_of(agent: RunningAgent) -> list[psutil.Process]:
    children = psutil.Process(agent.process.pid).children()
    return [child for child in children if "agent.runtimes.accelerator_process" in child.cmdline()]


def wait_for_accelerator(agent: RunningAgent, name: str) -> None:
    """Uploads continuously; each gets its answer."""

    def has_moved() -> bool:
        assert answer_of(agent) == digit_shown(0)
        return bool(agent.model()["accelerator"] == name)

    wait_until(has_moved, timeout_s=_TRIED_S, what=f"the model runs on the {name}")


def test_gpu_serves_and_its_loss_fails_no_request(tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, environment=swiftshader.environment(), engine={"accelerator": "gpu"})
    (agent.models / "digits.tflite").write_bytes(model_file(1))
    with agent:
        wait_for_accelerator(agent, "gpu")
        assert answer_of(agent) == digit_shown(0)
        model = agent.model()
        assert swiftshader.DEVICE in model["runtime"]
        assert "per image, the CPU" in model["accelerator_reason"]
        ((labels, value),) = scraped(agent, "edge_agent_accelerator_info")
        assert (labels, value) == ({"model": "digits", "accelerator": "gpu", "runtime": model["runtime"]}, 1)
        (process,) = processes_of(agent)
        os.kill(process.pid, signal.SIGSEGV)  # as a driver that crashes
        wait_for_accelerator(agent, "cpu")
        assert "failed: its driver crashed (SIGSEGV)." in agent.model()["accelerator_reason"]
        assert answer_of(agent) == digit_shown(0)
        assert not processes_of(agent)
        assert agent.end() < _TRIED_S
    assert "The CPU computes it from now on." in agent.log


def test_driver_that_is_gone_at_the_next_start_leaves_the_model_on_the_cpu(tmp_path: Path) -> None:
    environment = swiftshader.environment()
    with RunningAgent(tmp_path, environment=environment, engine={"accelerator": "gpu"}) as agent:
        agent.drop(model_file(1))
        wait_until(agent.model, what="the model is seen")
        wait_until(lambda: agent.model()["serving"], what="the model serves")
        wait_for_accelerator(agent, "gpu")
        agent.end()
    gone = dict.fromkeys(environment, str(tmp_path / "gone.json"))
    with RunningAgent(tmp_path, environment=gone, engine={"accelerator": "gpu"}) as agent:
        wait_until(lambda: agent.model()["accelerator_reason"], what="the model was looked at")
        model = agent.model()
        assert model["accelerator"] == "cpu"
        assert model["accelerator_reason"].startswith("The agent may use no GPU here")
        assert answer_of(agent) == digit_shown(0)
    with RunningAgent(tmp_path, environment=environment, engine={"accelerator": "gpu"}) as agent:
        wait_for_accelerator(agent, "gpu")


def test_cpu_starts_nothing_for_a_gpu(tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, environment=swiftshader.environment(), engine={"accelerator": "cpu"})
    (agent.models / "digits.tflite").write_bytes(model_file(1))
    with agent:
        assert answer_of(agent) == digit_shown(0)
        assert agent.model()["accelerator_reason"] is None
        assert not processes_of(agent)
        assert "ulkan" not in str([each.path for each in psutil.Process(agent.process.pid).memory_maps()])
        assert "WebGpu" not in str([each.path for each in psutil.Process(agent.process.pid).memory_maps()])
    assert not (tmp_path / "state/models/accelerators.json").exists()
