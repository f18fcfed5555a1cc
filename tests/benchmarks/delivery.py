"""The cost of delivering results over MQTT: the delay until a subscriber has them, and the agent's CPU time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from agents.running_agent import RunningAgent
from benchmarks.figure import Figure, Skipped
from end_to_end.material import digit_png, model_file
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parent
_PER_S, _CPU_PER_S = 50, 30
_ROUNDS = 8
_ROUND_S = 5
_WARM_S = 3


def figures() -> Iterator[Figure | Skipped]:
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        yield Skipped("invoke() to a subscriber", "mosquitto is not installed.")
        return
    rounds = _latencies_ms()
    for percent, bound in ((50, 3), (99, 10)):
        name = f"end of invoke() to a subscriber, {_PER_S}/s, p{percent}"
        yield Figure.of(name, [_percentile(each, percent) for each in rounds], unit="ms", bound=bound)
    shares = _processor_shares()
    yield Figure.of(f"publishing {_CPU_PER_S} results/s", shares, unit="% of a core", bound=3)


def _latencies_ms() -> list[list[float]]:
    """The delays of each round, in ascending order."""
    with _folder() as folder, Mosquitto(folder) as broker, _listening(broker, folder / "arrivals"):
        stamps = folder / "stamps"
        stamped = [sys.executable, str(_HERE / "stamped_agent.py"), str(stamps)]
        with _agent(folder, broker, per_s=_PER_S, under=stamped) as agent:
            time.sleep(_WARM_S + _ROUNDS * _ROUND_S)
            agent.end()
        arrivals = _by_seq((folder / "arrivals").read_text())
        invokes = _by_seq(stamps.read_text())
    seqs = sorted(arrivals.keys() & invokes.keys())[_WARM_S * _PER_S :]
    took_ms = [(arrivals[seq] - invokes[seq]) / 1e6 for seq in seqs]
    count = _ROUND_S * _PER_S
    return [sorted(took_ms[start : start + count]) for start in range(0, len(took_ms) - count + 1, count)]


def _processor_shares() -> list[float]:
    """CPU percent that an agent uses more than one without MQTT, which does the same work at the same time."""
    with (
        _folder() as one,
        _folder() as other,
        Mosquitto(one) as broker,
        _listening(broker, one / "arrivals"),
        _agent(one, broker, per_s=_CPU_PER_S) as with_mqtt,
        _agent(other, None, per_s=_CPU_PER_S) as without,
    ):
        time.sleep(_WARM_S)
        return [_share(with_mqtt, without) for _ in range(_ROUNDS)]


def _share(with_mqtt: RunningAgent, without: RunningAgent) -> float:
    agents = with_mqtt, without
    before_s, started_s = [_processor_s(agent) for agent in agents], time.monotonic()
    time.sleep(_ROUND_S)
    more_s = [_processor_s(agent) - then_s for agent, then_s in zip(agents, before_s, strict=True)]
    return 100 * (more_s[0] - more_s[1]) / (time.monotonic() - started_s)


def _processor_s(agent: RunningAgent) -> float:
    times = psutil.Process(agent.process.pid).cpu_times()
    return float(times.user + times.system)


def _agent(folder: Path, broker: Mosquitto | None, *, per_s: int, under: list[str] | None = None) -> RunningAgent:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "digit.png").write_bytes(digit_png())
    source = {"source": str(folder / "pictures"), "loop": True, "model": "digits", "max_fps": per_s}
    mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port} if broker else {"enabled": False}
    agent = RunningAgent(folder, under=under or (), mqtt=mqtt, cameras={"camera": source})
    agent.drop(model_file(1), checksum=True)
    return agent


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def _listening(broker: Mosquitto, arrivals: Path) -> Iterator[None]:
    command = [sys.executable, str(_HERE / "listener.py"), str(broker.port), str(arrivals)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == "subscribed\n"
        try:
            yield
        finally:
            listener.kill()


def _by_seq(lines: str) -> dict[int, int]:
    return {int(seq): int(ns) for seq, ns in (line.split() for line in lines.splitlines())}


def _percentile(ascending: list[float], percent: int) -> float:
    return ascending[(len(ascending) - 1) * percent // 100]
