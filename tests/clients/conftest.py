"""An agent with three published models, a token and TLS, and what it answers to /predict for six photos."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from agents.running_agent import ROOT, RunningAgent, wait_until
from peers.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

MODELS = {
    "uint8": "mobilenet_v2_224_uint8",
    "int8": "mlperf_vww_96_int8",
    "float32": "mobilenet_v1_025_224_float_metadata",
}
PHOTOS = ("burger.jpg", "cat_720p.jpg", "grace_hopper.bmp", "hot_dog.jpg", "parrot.webp", "sunflower.bmp")


@dataclass
class Served:
    """`grpc` and `http` are addresses; `scores` has what /predict answered, by model and photo."""

    grpc: str
    http: str
    ca_file: Path
    token: str
    photos: dict[str, bytes]
    scores: dict[tuple[str, str], npt.NDArray[np.float64]] = field(default_factory=dict)

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Agent(RunningAgent):
    """The agent has its own environment: its packages and those of the clients do not fit together."""

    program = ROOT / ".venv/bin/edge-agent"


def grpc_address(agent: RunningAgent) -> str:
    found = re.search(r"gRPC 127\.0\.0\.1(:\d+),", agent.log)
    assert found is not None, agent.log
    return f"127.0.0.1{found[1]}"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("agent")
    files = Authority(folder).sign("agent")
    tls = {"tls_cert": str(files.cert_file), "tls_key": str(files.key_file)}
    agent = Agent(folder, http=tls, grpc={"enabled": True, "port": 0})
    create = [str(Agent.program), "token", "create", "clients", "--scope", "infer"]
    with agent:
        for name, source in MODELS.items():
            (model,) = (assets / "models" / source).glob("*.tflite")
            if (labels := model.with_name("labels.txt")).exists():
                (agent.models / f"{name}.txt").write_bytes(labels.read_bytes())
            agent.drop(model.read_bytes(), name)
        done = subprocess.run(
            [*create, "--config", str(folder / "agent.yaml")], check=True, capture_output=True, text=True
        )
        photos = {photo: (assets / "photos" / photo).read_bytes() for photo in PHOTOS}
        http = f"https://127.0.0.1:{agent.port}"
        served = Served(grpc_address(agent), http, files.ca_file, done.stdout.strip(), photos)
        with httpx.Client(base_url=http, headers=served.header, verify=str(files.ca_file), trust_env=False) as client:
            wait_until(lambda: len(serving(client)) == len(MODELS), timeout_s=60, what="all models serve")
            for name in MODELS:
                for photo, content in photos.items():
                    served.scores[name, photo] = scores(client, name, content)
        yield served


def serving(client: httpx.Client) -> list[str]:
    return [model["name"] for model in client.get("/v1/models").json()["models"] if model["serving"]]


def scores(client: httpx.Client, model: str, content: bytes) -> npt.NDArray[np.float64]:
    """In the order of the classes."""
    answer = client.post("/predict", params={"model": model, "max_results": 10_000}, content=content, timeout=30)
    found = {each["index"]: each["score"] for each in answer.json()["categories"]}
    return np.array([found[index] for index in range(len(found))])
