"""Clients of every kind for half an hour: memory, descriptors and threads stay as they are."""

from __future__ import annotations

import contextlib
import operator
import shutil
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from faults.mixed_load import MixedLoad
from peers.mosquitto import Mosquitto

from agent.security.tokens import create_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.figures import Figures
    from faults.scale import Scale


@pytest.mark.first
@pytest.mark.timeout(3000)
def test_mixed_load_leaves_memory_descriptors_and_threads_flat(tmp_path: Path, figures: Figures, scale: Scale) -> None:
    warm_up_s, load_s, growth_mb = scale(short=(30, 90, 10), full=(300, 1500, 5))
    with _agent(tmp_path) as agent:
        token = create_token(tmp_path / "state" / "tokens", "load", "admin")
        process = Path(f"/proc/{agent.process.pid}")
        with MixedLoad(agent, token) as warm_up:
            _memory_mb(process, for_s=warm_up_s)
        at_rest = _resources(process)
        with MixedLoad(agent, token) as load:
            memory_mb = _memory_mb(process, for_s=load_s)
        wait_until(
            lambda: all(map(operator.le, _resources(process), at_rest)),
            timeout_s=60,
            what=f"at most {at_rest} descriptors and threads remain; now {_resources(process)}",
        )
        log = agent.log
        agent.end()
    third = len(memory_mb) // 3
    first_mb, last_mb = statistics.median(memory_mb[:third]), statistics.median(memory_mb[-third:])
    answers = sum(codes.total() for codes in load.codes.values())
    what = f"{(warm_up_s + load_s) // 60} min of mixed load over HTTP"
    figures(f"{what}: unexpected answers", "0", f"{len(load.unexpected)} of {answers}")
    figures(
        f"{what}: memory (RSS), median of the last third after the warm-up",
        f"at most {growth_mb} MB above that of the first",
        f"{last_mb:.1f} MB; {first_mb:.1f} MB in the first",
    )
    figures(
        f"{what}: descriptors and threads afterward",
        f"at most {at_rest[0]} and {at_rest[1]}, as after the warm-up",
        "as required",
    )
    assert [*warm_up.unexpected, *load.unexpected] == []
    assert all(codes[200] for name, codes in load.codes.items() if name in ("raw upload", "form", "batch", "status"))
    assert "Traceback" not in log
    assert last_mb - first_mb < growth_mb


@contextlib.contextmanager
def _agent(folder: Path) -> Iterator[RunningAgent]:
    """With a camera and, if mosquitto is installed, a broker."""
    config: dict[str, Any] = {
        "cameras": {"film": {"source": str(VIDEO), "loop": True}},
        "http": {"max_upload_bytes": 4 << 20, "header_timeout_s": 2},
    }
    with contextlib.ExitStack() as stack:
        if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
            broker = stack.enter_context(Mosquitto(folder))
            config["mqtt"] = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        agent = RunningAgent(folder, **config)
        agent.drop(DIGITS.read_bytes())
        stack.enter_context(agent)
        wait_until(lambda: agent.get("/readyz").is_success, what="the agent is ready")
        yield agent


def _memory_mb(process: Path, *, for_s: float) -> list[float]:
    """One sample of RSS per second."""
    samples = []
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        time.sleep(1)
        samples.append(int(_status(process)["VmRSS"].split()[0]) / 1024)
    return samples


def _resources(process: Path) -> tuple[int, int]:
    """Descriptors and threads."""
    return len(list((process / "fd").iterdir())), int(_status(process)["Threads"])


def _status(process: Path) -> dict[str, str]:
    lines = (process / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
