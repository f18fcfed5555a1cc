"""Every command of the README and of docs/ runs here, against the demo on free ports.

The commands of the converter run in tests/converter, those of pages about an installed service in tests/system.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from documents import DOCUMENTS, ON_A_BOARD, REPOSITORY, WITH_TENSORFLOW, blocks, commands, lines_not_printed, run
from peers.mosquitto import free_port

from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_DOCKER = "Docker is not available; tests/system/test_image.py runs the steps of the Dockerfile"
_BY_A_PROXY = "needs a public name; tests/rest/test_refused_requests.py sends what a proxy sends"
_BY_A_CLUSTER = "no cluster is available; tests/kubernetes checks the manifests"

# What runs elsewhere, and where.
_ELSEWHERE = {
    "make run": "tests/make-run-works, called by .ci/run",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make bench": "by hand: it takes minutes and a quiet machine",
    "sudo deploy/systemd/install.sh": "tests/system, as a command of docs/tutorial/first-label.md",
    ".venv/bin/edge-agent run --config my-agent.yaml": "tests/end_to_end, with configurations of their own",
    **dict.fromkeys(commands(REPOSITORY / "docs/how-to/reverse-proxy.md"), _BY_A_PROXY),
    **{
        line: "tests/system/test_watch_unit.py"
        for line in commands(REPOSITORY / "docs/how-to/watch.md")
        if line.startswith("sudo ")
    },
    **{line: _BY_DOCKER for line in commands(REPOSITORY / "docs/how-to/container.md") if line.startswith("docker ")},
    **{
        line: _BY_A_CLUSTER
        for line in commands(REPOSITORY / "docs/how-to/kubernetes.md")
        if line.startswith("kubectl ")
    },
}
_NEEDS_A_PACKAGE = ("mosquitto_sub", "promtool")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's working folder: the checkout's parts, a configuration and a model of their own."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    (folder / "demo").symlink_to(REPOSITORY / "demo")
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    (folder / "my-agent.yaml").write_text("cameras: {front: {source: /dev/video0}}\n")
    (folder / "another.tflite").write_bytes(_model("another"))
    without_metadata = DIGITS.read_bytes().partition(b"PK\3\4")[0].replace(b"TFLITE_METADATA", b"hidden_metadata")
    (folder / "parrots.tflite").write_bytes(without_metadata)
    (folder / "class-names.txt").write_text("robin wren finch macaw crow swan duck hawk owl jay".replace(" ", "\n"))
    shutil.copy(REPOSITORY / "demo/digit.jpg", folder / "parrot.jpg")  # a 3, thus a macaw
    return folder


@pytest.fixture(scope="module")
def demo(workspace: Path) -> Iterator[tuple[RunningAgent, int]]:
    """The running demo and the port of its broker; birds and crows have two versions, the second crows are a canary."""
    (workspace / ".demo").mkdir()
    port = free_port()
    agent = RunningAgent(
        workspace / ".demo",
        device={"id": "demo"},
        models={"canary": {"crows": 0.1}},
        cameras={"digits": {"source": str(VIDEO), "loop": True, "model": "digits"}},
        events={"enabled": True},
        mqtt={"enabled": True, "embedded_broker": True, "host": "127.0.0.1", "port": port},
    )
    agent.drop(DIGITS.read_bytes())
    with agent:
        for name in ("birds", "crows"):
            agent.drop(_model(f"old {name}"), name)
        wait_until(lambda: _serve(agent, "1"), what="version 1 of both serves")
        for name in ("birds", "crows"):
            agent.drop(_model(f"new {name}"), name)
        wait_until(lambda: _serve(agent, "2"), what="version 2 of both serves")
        yield agent, port


def _model(name: str) -> bytes:
    """A model that is not the demo's own; each name gives another file."""
    labels = [f"{name} {n}" for n in range(10)]
    return pack_metadata(DIGITS.read_bytes(), labels=labels, mean=[0], std=[255], color="gray", name=name, version="1")


def _serve(agent: RunningAgent, version: str) -> bool:
    """Whether the version of birds and crows serves, as the stable one or as a canary."""
    models = [agent.model(name) for name in ("birds", "crows")]
    served = [{each["version"] for each in (model.get("serving"), model.get("canary")) if each} for model in models]
    return all(version in versions for versions in served)


@pytest.mark.long
@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path not in (*ON_A_BOARD, *WITH_TENSORFLOW)], ids=lambda path: path.name
)
def test_documented_commands_print_the_documented_output(
    document: Path, workspace: Path, demo: tuple[RunningAgent, int]
) -> None:
    agent, broker_port = demo
    replaced = {
        "-h broker.local": "-h 127.0.0.1 -p 1883",
        "8501": str(agent.port),
        "1883": str(broker_port),
        "/var/lib/edge-agent/models": str(agent.models),
    }
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EDGE_AGENT_HTTP__PORT": str(agent.port),
    }
    printed = ""
    for block in blocks(document):
        if block.kind == "text" and printed:
            assert list(lines_not_printed(block, printed)) == [], printed
        if block.kind != "sh":
            continue
        printed = ""
        for command in block.lines:
            if not _runs_here(command):
                continue
            line = command
            for old, new in replaced.items():
                line = line.replace(old, new)
            answer = run(line, workspace, environment)
            if "/v1/models/another" in command:  # a user would be slower than the swap
                wait_until(partial(_is_available, line, workspace), what="another serves")
            assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
            assert '"error"' not in answer.stdout or "/v1/models/another" in command, f"{command}\n{answer.stdout}"
            printed += f"{answer.stdout}\n{answer.stderr}\n"


def _runs_here(command: str) -> bool:
    if command in _ELSEWHERE or not {".venv-converter", "unzip"}.isdisjoint(re.split("[ /]", command)):
        return False
    # In CI the packages are there: the tests that are marked mosquitto or prometheus need them too.
    return not command.startswith(_NEEDS_A_PACKAGE) or shutil.which(command.split(maxsplit=1)[0]) is not None


def _is_available(line: str, folder: Path) -> bool:
    return "AVAILABLE" in run(line, folder).stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    wrong = [
        f"{link}#{anchor}"
        for link, anchor in _links(document)
        if not (document.parent / link).exists()
        or (anchor and anchor not in _anchors((document.parent / link) if link else document))
    ]
    assert wrong == []


def test_every_page_is_reachable_from_the_index() -> None:
    reached, unread = set(), [REPOSITORY / "docs/README.md"]
    while unread:
        page = unread.pop()
        reached.add(page)
        linked = {(page.parent / link).resolve() for link, _ in _links(page) if link.endswith(".md")}
        unread += linked - reached - set(unread)
    assert set((REPOSITORY / "docs").rglob("*.md")) - reached == set()


def _links(document: Path) -> list[tuple[str, str]]:
    """Of each link to a file of this repository, its path and its anchor; either may be empty."""
    return re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", _without_code(document))


def _anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _without_code(document), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def _without_code(document: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_named_test_exists(document: Path) -> None:
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", document.read_text())
    missing = [f"{file}::{name}" for file, name in named if not _exists(REPOSITORY / "tests" / file, name)]
    assert missing == []


def _exists(file: Path, test: str) -> bool:
    """`test` may be empty: all tests of the file."""
    return file.exists() and (not test or f"def {test}(" in file.read_text())


def test_readme_fits_in_150_lines() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150
