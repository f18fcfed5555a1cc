"""Requests per second of Predict over gRPC, compared with POST /predict in turn, and the memory that gRPC needs."""

from __future__ import annotations

import itertools
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from agents.running_agent import RunningAgent, wait_until
from benchmarks import wrk
from benchmarks.figure import Figure, Skipped
from benchmarks.material import SIZES, jpeg

from agent.rpc.protos import tf_serving_pb2 as tfs

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "a JPEG over gRPC Predict / POST /predict"
_MISSING = wrk.MISSING or (None if shutil.which("h2load") else "h2load is not installed: apt install nghttp2-client")
_ROUNDS = 6
_TURN_S = 2
_CONNECTIONS = 8


def figures(model: Path) -> Iterator[Figure | Skipped]:
    if _MISSING:
        yield Skipped(_NAME, _MISSING)
        return
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        engine = {"workers": 2, "threads": 1}
        agent = RunningAgent(Path(one), engine=engine, grpc={"enabled": True, "port": 0})
        without = RunningAgent(Path(other), engine=engine)
        with agent, without:
            for each in (agent, without):
                each.drop(model.read_bytes(), "mobilenet")
            wait_until(lambda: all(map(_serves, (agent, without))), timeout_s=60, what="both serve")
            yield from _compared(agent, without, Path(one))


def _serves(agent: RunningAgent) -> bool:
    return agent.get("/v2/models/mobilenet/ready").is_success


def _compared(agent: RunningAgent, without: RunningAgent, folder: Path) -> Iterator[Figure]:
    found = re.search(r"gRPC (127\.0\.0\.1:\d+),", agent.log)
    assert found is not None
    image = jpeg(*SIZES[0])
    body = _message(agent, image, folder)
    predicted, rates = [_http_rate(agent, image)], []
    for _ in range(_ROUNDS):
        rates.append(_grpc_rate(found[1], body))
        predicted.append(_http_rate(agent, image))
        _http_rate(without, image)  # the same work, for its memory
    around = [(before + after) / 2 for before, after in itertools.pairwise(predicted)]
    yield Figure.of("a JPEG over gRPC Predict", rates, unit="requests/s")
    ratios = [rate / beside for rate, beside in zip(rates, around, strict=True)]
    yield Figure.of(_NAME, ratios, bound=0.80, at_most=False)
    yield Figure.of("RSS with gRPC - without it, after load", [_rss_mb(agent) - _rss_mb(without)], unit="MB", bound=25)


def _message(agent: RunningAgent, image: Path, folder: Path) -> Path:
    """The body of the HTTP/2 request: the message after a flag (not compressed) and its length."""
    name = agent.json("/v2/models/mobilenet")["inputs"][0]["name"]
    tensor = tfs.SentTensor(dtype=tfs.DT_STRING, string_val=[image.read_bytes()])
    message = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="mobilenet"), inputs={name: tensor}).SerializeToString()
    body = folder / "predict"
    body.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    return body


def _http_rate(agent: RunningAgent, image: Path) -> float:
    load = wrk.result(wrk.start(f"{agent.url}/predict", image, connections=_CONNECTIONS, for_s=_TURN_S))
    assert not load.failed, f"{load.failed} of {load.requests} uploads failed"
    return load.per_s


def _grpc_rate(address: str, body: Path) -> float:
    load = ["h2load", "-t1", f"-c{_CONNECTIONS}", "-m1", f"-D{_TURN_S}", "-d", str(body)]
    url = f"http://{address}/tensorflow.serving.PredictionService/Predict"
    output = subprocess.run(
        [*load, "-H", "content-type: application/grpc", "-H", "te: trailers", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    finished = re.search(r"finished in \S+, ([\d.]+) req/s", output)
    failed = re.search(r"(\d+) failed", output)
    assert finished is not None, output
    assert failed is not None, output
    assert failed[1] == "0", output
    return float(finished[1])


def _rss_mb(agent: RunningAgent) -> float:
    return psutil.Process(agent.process.pid).memory_info().rss / 1e6
