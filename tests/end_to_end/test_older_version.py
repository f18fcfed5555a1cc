"""Update and downgrade: each version continues with the state folder that the other one wrote."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from agents.running_agent import ROOT, RunningAgent, wait_until
from end_to_end.material import digit_png, model_file, sha256
from needs import need
from peers.mosquitto import Mosquitto, free_port
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long

_OLDER = "57f4c19a94368df401b935dcf0c00657f4f157e0"  # the last commit before the modules were moved
_OLDER_COMMAND = f'exec {shlex.quote(sys.executable)} -m agent.cli "$@"'
_MODEL = "/api/models/digits"
_PINNED, _GOOD, _WITHDRAWN = 1, 2, 3
_PROBATION = 100  # inferences; a version still on probation would be blamed for a killed run
_HTTP_ONLY = ("class_id", "label", "confidence")  # fields of an upload's answer that the Result lacks

# Python runs this at the start of every process, trials included. `agent` is imported here, before the current folder
# joins the import path, so a process started in this checkout still gets the `agent` of PYTHONPATH.
_SITE_CUSTOMIZE = """
import os, sys
import agent
with open(os.environ["IMPORTS_OF_AGENT"], "a") as file:
    print(agent.__file__, *sys.orig_argv, file=file)
"""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the older version's code."""
    command = ["git", "archive", "--format=zip", _OLDER, "agent"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    need(archive.returncode == 0, f"git cannot export the commit {_OLDER[:7]}: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("older")
    zipfile.ZipFile(io.BytesIO(archive.stdout)).extractall(folder)
    return folder


@pytest.mark.mosquitto
@pytest.mark.parametrize("is_update", [True, False], ids=["update", "downgrade"])
def test_a_state_folder_is_taken_over_from_another_version(tmp_path: Path, older: Path, *, is_update: bool) -> None:
    before, after = (older, ROOT) if is_update else (ROOT, older)
    broker = Mosquitto(tmp_path)

    with _agent(before, tmp_path, broker) as agent:
        for number in (_PINNED, _GOOD, _WITHDRAWN):
            _drop(agent, number)
        _command(agent, "rollback")
        _command(agent, "pin", version=_PINNED)
        kept = [_upload(agent) for _ in range(_PROBATION)]
        wait_until(lambda: not agent.json(_MODEL)["probation"], what="the pinned version is proven")
        model = _lasting(agent.json(_MODEL))
        agent.end()
    assert agent.process.returncode == 0
    with _agent(before, tmp_path, broker, durability="group") as agent:
        assert _lasting(agent.json(_MODEL)) == model
        kept += [_upload_to_disk(agent) for _ in range(5)]
        last = _upload(agent)
        agent.end(signal.SIGKILL)
    _check_imports(tmp_path, before)

    assert model["pinned"] == str(_PINNED)
    assert [(each["version"], each["sha256"], each["state"]) for each in model["versions"]] == [
        (str(_WITHDRAWN), sha256(model_file(_WITHDRAWN)), "rejected"),
        (str(_GOOD), sha256(model_file(_GOOD)), "admitted"),
        (str(_PINNED), sha256(model_file(_PINNED)), "serving"),
    ]

    with broker, Subscriber(broker.port) as heard, _agent(after, tmp_path, broker) as agent:
        assert _upload(agent)["model"] == model["serving"]
        assert _lasting(agent.json(_MODEL)) == model
        _check_backlog(heard, kept, last)
        _command(agent, "unpin")
        wait_until(lambda: agent.json(_MODEL)["serving"]["version"] == str(_GOOD), what="the good version serves")
        assert _upload(agent)["model"]["sha256"] == sha256(model_file(_GOOD))
        assert agent.json(_MODEL)["versions"][0] == model["versions"][0]
        agent.end()
    assert agent.process.returncode == 0
    assert "Traceback" not in agent.log
    _check_imports(tmp_path, after)


class _AgentOfAnyVersion(RunningAgent):
    """It is ready once HTTP answers; log messages may differ between the versions."""

    def restart(self) -> None:
        self.start()
        try:
            wait_until(lambda: self._answers() or not self.is_running(), what="the agent answers")
            assert self.is_running(), f"the agent ended before it was ready:\n{self.log}"
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    def _answers(self) -> bool:
        try:
            return self.get("/healthz").is_success
        except httpx.TransportError:
            return False


def _agent(code: Path, folder: Path, broker: Mosquitto, *, durability: str = "spill") -> RunningAgent:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITE_CUSTOMIZE)
    environment = {"PYTHONPATH": f"{site}{os.pathsep}{code}", "IMPORTS_OF_AGENT": str(_imports(folder, code))}
    under = () if code == ROOT else ("sh", "-c", _OLDER_COMMAND)
    mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port, "durability": durability}
    port = free_port()
    agent = _AgentOfAnyVersion(folder, environment=environment, under=under, http={"port": port}, mqtt=mqtt)
    agent.port = port
    return agent


def _imports(folder: Path, code: Path) -> Path:
    return folder / ("imports-of-this" if code == ROOT else "imports-of-older")


def _check_imports(folder: Path, code: Path) -> None:
    """Every process, trials included, ran that version's code."""
    lines = _imports(folder, code).read_text().splitlines()
    assert {line.split()[0] for line in lines} == {str(code / "agent" / "__init__.py")}
    assert [line for line in lines if "run --config" in line]


def _drop(agent: RunningAgent, number: int) -> None:
    agent.drop(model_file(number), checksum=True)
    wait_until(lambda: _serving(agent) == sha256(model_file(number)), what=f"version {number} serves")


def _serving(agent: RunningAgent) -> str:
    return str((agent.model().get("serving") or {}).get("sha256"))


def _command(agent: RunningAgent, command: str, **body: int) -> None:
    answer = agent.post(f"{_MODEL}/{command}", json=body)
    assert answer.is_success, answer.text


def _upload(agent: RunningAgent) -> dict[str, Any]:
    answer = agent.post("/predict", content=digit_png())
    assert answer.is_success, answer.text
    result: dict[str, Any] = answer.json()
    return result


def _upload_to_disk(agent: RunningAgent) -> dict[str, Any]:
    """Returns once the outbox needs more space on the disk than before."""
    before = _outbox_bytes(agent)
    result = _upload(agent)
    wait_until(lambda: _outbox_bytes(agent) > before, what="the result is on the disk")
    return result


def _outbox_bytes(agent: RunningAgent) -> float:
    lines = agent.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("edge_agent_outbox_bytes "))


def _lasting(model: dict[str, Any]) -> dict[str, Any]:
    """What a restart must not change."""
    return {key: model[key] for key in ("serving", "probation", "pinned", "canary", "versions")}


def _check_backlog(heard: Subscriber, kept: list[dict[str, Any]], last: dict[str, Any]) -> None:
    """`kept` was on the disk when the last run was killed; `last` may be lost, if a gap announces that."""

    def arrived() -> list[dict[str, Any]]:
        messages = [message.json for message in heard.of("/uploads/result")]
        return [message for message in messages if message["boot"] in {kept[0]["boot"], last["boot"]}]

    wait_until(lambda: len(arrived()) >= len(kept), what="every kept result arrives")
    assert arrived()[: len(kept)] == [_late(result) for result in kept]
    wait_until(lambda: heard.of("/gaps"), what="the killed run is announced")
    (gap,) = [message.json for message in heard.of("/gaps")]
    assert (gap["boot"], gap["cause"], gap["last_seq"], gap["count"]) == (last["boot"], "killed", None, None)
    assert gap["first_seq"] > kept[-1]["seq"]
    if gap["first_seq"] > last["seq"]:
        wait_until(lambda: _late(last) in arrived(), what="the last result arrives, as no gap announces its loss")


def _late(answer: dict[str, Any]) -> dict[str, Any]:
    """The message about a result that arrives after a restart."""
    return {key: value for key, value in answer.items() if key not in _HTTP_ONLY} | {"replayed": True}
