"""Uploads per second of a SavedModel, 16 at a time, next to TensorFlow alone and Keras behind FastAPI, in turn.

`PYTHONPATH=tests .venv-converter/bin/python -m benchmarks.tensorflow_rate` prints the figures in three minutes. Under
`make bench`, the agents and the peers run in .venv-converter too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from agents.running_agent import RunningAgent, wait_until
from benchmarks import wrk
from benchmarks.figure import Figure, Skipped
from benchmarks.material import CACHE, ROOT, jpeg
from peers.mosquitto import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NAME = "SavedModel: POST /predict / its function in a loop"
_PYTHON = ROOT / ".venv-converter" / "bin" / "python"
_FOLDER = CACHE / "tensorflow_rate"
_SIDE, _ALPHA = 224, 1.0
_CLIENTS = 16
_ROUNDS = 4
_TURN_S = 5.0
_MAKE = f"""
import sys, tensorflow as tf
tf.keras.utils.set_random_seed(1)
model = tf.keras.applications.MobileNetV2(({_SIDE}, {_SIDE}, 3), alpha={_ALPHA}, weights=None)
model.save(sys.argv[1] + "/model.keras")
model.export(sys.argv[1] + "/saved", verbose=False)
"""


def figures() -> Iterator[Figure | Skipped]:
    if wrk.MISSING:
        yield Skipped(_NAME, wrk.MISSING)
        return
    if not _PYTHON.is_file():
        yield Skipped(_NAME, "TensorFlow is not installed: make dev-converter")
        return
    _make_model()
    body = jpeg(_SIDE, _SIDE)
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(_loop())
        urls = {
            "batches": stack.enter_context(_agent({"enabled": True})),
            "auto": stack.enter_context(_agent({"enabled": "auto"})),
            "single": stack.enter_context(_agent({"enabled": False})),
            "keras": stack.enter_context(_keras()),
        }
        turns: dict[str, Callable[[], float]] = {
            "loop": loop,
            **{name: lambda url=url: _rate(url, body) for name, url in urls.items()},  # type: ignore[misc]
        }
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(_ROUNDS):
            for name, turn in turns.items():
                rates[name].append(turn())
        batch_size = _mean_batch_size(urls["batches"])
    yield from _compared(rates, batch_size)


def _compared(rates: dict[str, list[float]], batch_size: float) -> Iterator[Figure]:
    yield Figure.of("SavedModel: its function in a loop", rates["loop"], unit="images/s")
    yield Figure.of("SavedModel: POST /predict, 16 at a time", rates["auto"], unit="images/s")
    yield Figure.of("Keras predict() behind FastAPI, 16 at a time", rates["keras"], unit="images/s")
    yield Figure.of(_NAME, _ratios(rates["auto"], rates["loop"]), bound=0.85, at_most=False)
    yield Figure.of("SavedModel: POST /predict / Keras", _ratios(rates["auto"], rates["keras"]), bound=5, at_most=False)
    yield Figure.of("SavedModel: batches / one at a time", _ratios(rates["batches"], rates["single"]))
    yield Figure.of("SavedModel: mean batch size, if forced", [batch_size], unit="images")


def _ratios(own: Sequence[float], other: Sequence[float]) -> list[float]:
    return [one / two for one, two in zip(own, other, strict=True)]


def _make_model() -> None:
    if not (_FOLDER / "saved" / "saved_model.pb").is_file():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run([_PYTHON, "-c", _MAKE, _FOLDER], check=True, capture_output=True)


@contextlib.contextmanager
def _agent(batching: dict[str, Any]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        engine = {"workers": 2, "threads": 1, "batching": batching}
        agent = RunningAgent(Path(folder), engine=engine, http={"per_client": 2 * _CLIENTS})
        agent.program = _PYTHON.with_name("edge-agent")
        version = agent.models / "mobilenet" / "1"
        shutil.copytree(_FOLDER / "saved", version)
        labels = "".join(f"class {number}\n" for number in range(1000))
        version.with_name("1.txt").write_text(labels)
        version.with_name("1.yaml").write_text("mean: 127.5\nstd: 127.5\nscore: probability\n")
        with agent:
            wait_until(lambda: agent.get("/readyz").is_success, timeout_s=240, what="the SavedModel serves")
            yield agent.url


@contextlib.contextmanager
def _keras() -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    with _process("keras_server.py", _FOLDER / "model.keras", port):
        wait_until(lambda: _answers(f"{url}/health"), timeout_s=120, what="Keras is ready")
        yield url


@contextlib.contextmanager
def _loop() -> Iterator[Callable[[], float]]:
    """Idle between the calls."""
    with _process("function_loop.py", _FOLDER / "saved") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        size, asked, answers = process.stdout.readline(), process.stdin, process.stdout
        assert size.strip().isdecimal(), "the loop did not start"

        def rate() -> float:
            asked.write(f"{_TURN_S}\n")
            asked.flush()
            return float(answers.readline())

        yield rate


@contextlib.contextmanager
def _process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [str(_PYTHON), str(Path(__file__).with_name(script)), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _rate(url: str, body: Path) -> float:
    load = wrk.result(wrk.start(f"{url}/predict", body, connections=_CLIENTS, for_s=_TURN_S))
    assert not load.failed, f"{load.failed} of {load.requests} uploads to {url} failed"
    return load.per_s


def _mean_batch_size(url: str) -> float:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    total, count = (
        float(found[1]) if (found := re.search(rf"edge_agent_batch_size_{part}\{{[^}}]*\}} ([\d.e+]+)", text)) else 0.0
        for part in ("sum", "count")
    )
    return total / count if count else 0.0


def main() -> None:
    busy = psutil.getloadavg()[0]
    print(f"Load before: {busy:.2f}.", flush=True)
    for figure in figures():
        print("  ".join(cell for cell in figure.to_row() if cell), flush=True)


if __name__ == "__main__":
    main()
