"""Requests per second of a JPEG in the protocols of other model servers, compared with POST /predict, in turn."""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.running_agent import RunningAgent, wait_until
from benchmarks import wrk
from benchmarks.figure import Figure, Skipped
from benchmarks.material import SIZES, jpeg

from agent.open_inference.tensors import raw_from_elements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME = "a JPEG in another protocol / POST /predict"
_BOUND = 0.85
_ROUNDS = 6
_TURN_S = 2
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class _Upload:
    name: str
    path: str
    body: Path
    headers: Mapping[str, str]


def figures(model: Path) -> Iterator[Figure | Skipped]:
    if wrk.MISSING:
        yield Skipped(_NAME, wrk.MISSING)
        return
    with tempfile.TemporaryDirectory() as folder:
        agent = RunningAgent(Path(folder), engine={"workers": 2, "threads": 1})
        agent.drop(model.read_bytes(), "mobilenet")
        with agent:
            wait_until(lambda: agent.get("/v2/models/mobilenet/ready").is_success, timeout_s=60, what="it serves")
            image = jpeg(*SIZES[0])
            raw = _Upload("raw body", "/predict", image, {"Content-Type": "image/jpeg"})
            others = [_open_inference(agent, image, Path(folder)), _tf_serving(image, Path(folder))]
            yield from _compared(agent, raw, others)


def _compared(agent: RunningAgent, raw: _Upload, others: list[_Upload]) -> Iterator[Figure]:
    predicted: list[float] = []
    rates: dict[str, list[float]] = {other.name: [] for other in others}
    for _ in range(_ROUNDS):
        predicted.append(_rate(agent, raw))
        for other in others:
            rates[other.name].append(_rate(agent, other))
    predicted.append(_rate(agent, raw))
    around = [(before + after) / 2 for before, after in itertools.pairwise(predicted)]
    for name, values in rates.items():
        yield Figure.of(f"a JPEG over {name}", values, unit="requests/s")
        ratios = [rate / beside for rate, beside in zip(values, around, strict=True)]
        yield Figure.of(f"a JPEG over {name} / POST /predict", ratios, bound=_BOUND, at_most=False)


def _rate(agent: RunningAgent, upload: _Upload) -> float:
    wait_until(lambda: _is_idle(agent), what="the uploads that wrk broke off are done")
    url = f"{agent.url}{upload.path}"
    load = wrk.result(wrk.start(url, upload.body, connections=_CONNECTIONS, for_s=_TURN_S, headers=upload.headers))
    assert not load.failed, f"{load.failed} of {load.requests} uploads failed"
    return load.per_s


def _is_idle(agent: RunningAgent) -> bool:
    return "\nedge_agent_http_requests_in_flight 0.0" in agent.get("/metrics").text


def _tf_serving(image: Path, folder: Path) -> _Upload:
    """As its clients send it: a row with base64."""
    body = folder / "tf_serving"
    body.write_text(json.dumps({"instances": [{"b64": base64.b64encode(image.read_bytes()).decode()}]}))
    path = "/v1/models/mobilenet:predict"
    return _Upload("TensorFlow Serving REST", path, body, {"Content-Type": "application/json"})


def _open_inference(agent: RunningAgent, image: Path, folder: Path) -> _Upload:
    """As tritonclient sends it, with the answer binary too."""
    name = agent.json("/v2/models/mobilenet")["inputs"][0]["name"]
    content = raw_from_elements([image.read_bytes()])
    given = {"name": name, "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(content)}}
    text = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    body = folder / "open_inference"
    body.write_bytes(text + content)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return _Upload("Open Inference, binary", "/v2/models/mobilenet/infer", body, headers)
