"""Every command of the README and of docs/ runs here, against the demo on free ports.

Those of the converter run in tests/converter, those of docs/tutorial/first-label.md in tests/system.
"""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from documents import DOCUMENTS, REPOSITORY, commands, run
from peers.mosquitto import free_port

from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

# What runs elsewhere, and where.
_ELSEWHERE = {
    "make run": "tests/make-run-works, called by .ci/run",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make bench": "by hand: it takes minutes and a quiet machine",
    **dict.fromkeys(
        [line for line in commands(REPOSITORY / "docs/how-to/monitor.md") if line.startswith("docker ")],
        "no Docker engine is here; tests/system/test_image.py does the steps of the Dockerfile",
    ),
    "kubectl apply -k deploy/kubernetes/uploads": "no cluster is here; tests/kubernetes checks what it would get",
    "kubectl apply -k deploy/kubernetes/cameras": "no cluster is here; tests/kubernetes checks what it would get",
    ".venv/bin/edge-agent run --config my-agent.yaml": "tests/end_to_end, with configurations of their own",
}
_NEEDS_A_PACKAGE = ("mosquitto_sub", "promtool")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's working folder: the checkout's parts, a configuration and a model of their own."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    (folder / "demo").symlink_to(REPOSITORY / "demo")
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    (folder / "my-agent.yaml").write_text("cameras: {front: {source: /dev/video0}}\n")
    labels = [f"number {n}" for n in range(10)]
    another = pack_metadata(
        DIGITS.read_bytes(), labels=labels, mean=[0], std=[255], color="gray", name="another", version="1"
    )
    (folder / "another.tflite").write_bytes(another)
    return folder


@pytest.fixture(scope="module")
def demo(desk: Path) -> Iterator[tuple[RunningAgent, int]]:
    """The running demo and the port of its broker."""
    (desk / ".demo").mkdir()
    port = free_port()
    agent = RunningAgent(
        desk / ".demo",
        device={"id": "demo"},
        cameras={"digits": {"source": str(VIDEO), "loop": True}},
        mqtt={"enabled": True, "embedded_broker": True, "host": "127.0.0.1", "port": port},
    )
    agent.drop(DIGITS.read_bytes())
    with agent:
        yield agent, port


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "first-label.md"], ids=lambda path: path.name
)
def test_every_command_of_the_documents_works(document: Path, desk: Path, demo: tuple[RunningAgent, int]) -> None:
    agent, broker_port = demo
    for command in commands(document):
        if command in _ELSEWHERE or not {".venv-converter", "unzip"}.isdisjoint(re.split("[ /]", command)):
            continue
        if command.startswith(_NEEDS_A_PACKAGE) and shutil.which(command.split()[0]) is None:
            continue  # in CI it is there: the tests that are marked mosquitto or prometheus need it too
        line = command.replace("8501", str(agent.port)).replace("1883", str(broker_port))
        answer = run(line, desk)
        if "/v1/models/another" in command:  # a person is slower than the swap
            wait_until(partial(serves, line, desk), what="another serves")
        assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
        assert '"error"' not in answer.stdout or "/v1/models/another" in command, f"{command}\n{answer.stdout}"


def serves(line: str, folder: Path) -> bool:
    return "AVAILABLE" in run(line, folder).stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
