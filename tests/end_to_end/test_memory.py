"""Memory: an upload reuses the memory of the previous one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.running_agent import DIGITS, RunningAgent, wait_until

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.long


def test_uploads_reuse_memory_instead_of_fetching_it_from_the_kernel(tmp_path: Path) -> None:
    photo = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (427, 640, 3), np.uint8))[1].tobytes()
    with RunningAgent(tmp_path) as agent:
        agent.drop(DIGITS.read_bytes())
        wait_until(lambda: agent.post("/predict", content=photo).is_success, what="the model serves")
        with ThreadPoolExecutor(8) as clients:
            assert all(clients.map(lambda _: agent.post("/predict", content=photo).is_success, range(50)))
            before = page_faults(agent.process)
            assert all(clients.map(lambda _: agent.post("/predict", content=photo).is_success, range(200)))
        # Below 1 here; 12 to 20 if malloc returns memory to the kernel, and 330 with a larger model.
        assert (page_faults(agent.process) - before) / 200 < 5


def page_faults(process: subprocess.Popen[bytes]) -> int:
    """Minor page faults since the start: the tenth field of proc(5)'s stat."""
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[7])
