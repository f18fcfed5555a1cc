"""The gRPC door of the real command in its own process."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file

from agent.config.sections import Config
from agent.rpc.protos import tf_serving_pb2 as tfs
from agent.wiring.rpc import build_rpc

if TYPE_CHECKING:
    from pathlib import Path

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def test_predict_over_grpc_gives_the_scores_of_predict_over_http(tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, grpc={"enabled": True, "port": 0})
    agent.drop(model_file(1))
    with agent:
        wait_until(lambda: agent.get("/readyz").is_success, what="the model serves")
        over_http = agent.post("/predict", content=digit_png()).json()["categories"]
        found = re.search(r"gRPC (127\.0\.0\.1:\d+),", agent.log)
        assert found is not None, agent.log
        image = tfs.SentTensor(dtype=tfs.DT_STRING, string_val=[digit_png()])
        request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="digits"), inputs={"image": image})
        with grpc.insecure_channel(found[1]) as channel:
            call = channel.unary_unary(PREDICT, response_deserializer=tfs.PredictResponse.FromString)
            (output,) = call(request.SerializeToString(), timeout=10).outputs.values()
        assert {each["index"]: pytest.approx(each["score"], abs=1e-4) for each in over_http}.items() <= dict(
            enumerate(output.float_val)
        ).items()
        counted = f'edge_agent_grpc_requests_total{{code="OK",method="{PREDICT}"}} 1.0'
        assert counted in agent.get("/metrics").text
        assert agent.end() < 2
    assert agent.process.returncode == 0


def test_missing_package_is_reported_and_leaves_grpc_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in [each for each in sys.modules if each.startswith("agent.rpc.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "grpc", None)
    config = Config.model_validate({"grpc": {"enabled": True}})
    parts: dict[str, object] = dict.fromkeys(("data_plane", "places", "models", "health", "metrics", "access"))
    assert build_rpc(config, version="1.2.3", **parts) is None  # type: ignore[arg-type]  # none of them is used
    assert (
        f"Install it: {sys.executable} -m pip install 'edge-agent[grpc]'. HTTP, cameras and MQTT are not affected."
        in caplog.text
    )
