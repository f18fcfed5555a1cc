"""Start and stop, as systemd, a shell and a broker see them."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from agents.running_agent import VIDEO, RunningAgent, wait_until
from end_to_end.material import digit_png, model_file
from end_to_end.notify_socket import NotifySocket
from end_to_end.uploads import Uploads
from faults.disk_faults import AS_ORDINARY_USER
from peers.mosquitto import Mosquitto, free_port
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.first

_CAMERA = {"source": str(VIDEO), "loop": True, "max_fps": 30}
# LiteRT's C++ code writes this line whatever the log settings are.
_FOREIGN = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


@pytest.mark.mosquitto
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_in_time_with_exit_code_0_and_publishes_offline(tmp_path: Path, number: signal.Signals) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        with _agent_at(broker, tmp_path) as agent, Uploads(agent, model="digits") as uploads:
            wait_until(lambda: len(heard.of("/front/result")) > 10, what="the camera's results arrive")
            uploads.wait_for_code(200)
            assert agent.end(number) < 5
        assert agent.process.returncode == 0
        assert "Traceback" not in agent.log
        assert heard.payloads("test/status") == ["online", "offline"]
        with Subscriber(broker.port) as late:
            wait_until(lambda: late.retained().get("edge-agent/test/status") == "offline", what="offline is retained")


@pytest.mark.mosquitto
def test_the_broker_publishes_the_last_will_of_a_killed_agent(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        with _agent_at(broker, tmp_path) as agent:
            wait_until(lambda: heard.payloads("test/status") == ["online"], what="the agent is online")
            agent.end(signal.SIGKILL)
        wait_until(lambda: heard.payloads("test/status") == ["online", "offline"], what="the last will arrives")
        with Subscriber(broker.port) as late:
            wait_until(lambda: late.retained().get("edge-agent/test/status") == "offline", what="it is retained")


@pytest.mark.parametrize("scheme", ["rtsp", pytest.param("http", marks=pytest.mark.long)])
def test_a_stop_does_not_wait_for_a_silent_camera(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/stream"
        with RunningAgent(tmp_path, cameras={"front": {"source": source}}) as agent:
            silent.settimeout(10)
            connection, _ = silent.accept()
            with connection:
                assert "Camera front is starting: no frame yet." in agent.json("/readyz")["reasons"]
                assert agent.end() < 5
            assert agent.process.returncode == 0
            assert "Traceback" not in agent.log


def test_a_stop_during_the_start_ends_the_agent(tmp_path: Path) -> None:
    with NotifySocket() as systemd:
        agent = RunningAgent(tmp_path, environment={"NOTIFY_SOCKET": systemd.address})
        (agent.models / "digits.tflite").write_bytes(model_file(1))
        agent.start()
        wait_until(lambda: _catches(agent, signal.SIGTERM), what="the agent catches signals")
        assert agent.end() < 5
        assert agent.process.returncode == 0
        assert "Traceback" not in agent.log


@pytest.mark.long
@pytest.mark.parametrize(
    "stuck",
    [
        "agent.models.trial.Trial.run",
        "agent.models.loader.Loader.load",
        "agent.runtimes.tflite.TFLiteClassifier.scores",
        "agent.models.acceleration.Selector.choose",
    ],
)
def test_a_stop_does_not_wait_for_a_hanging_thread(tmp_path: Path, stuck: str) -> None:
    """In a trial, while it loads a model at the start, in an inference for an upload, or in the trial of a GPU."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/digits.tflite").write_bytes(model_file(1))
    port = free_port()
    config = {
        "device": {"state_folder": "state"},
        "models": {"folder": "models"},
        "http": {"port": port},
        "mqtt": {"enabled": False},
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(config))
    module, _, method = stuck.rpartition(".")
    module, _, kind = module.rpartition(".")
    code = f"""
import time
from {module} import {kind}
def hang(*_, **__):
    print("hanging", flush=True)
    time.sleep(60)
{kind}.{method} = hang
from agent.cli import main
main()
"""
    command = [sys.executable, "-c", code, "run", "--config", str(tmp_path / "agent.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as agent:
        assert agent.stdout is not None
        upload = threading.Thread(target=_upload_repeatedly, args=(port, agent), daemon=True)
        upload.start()
        next(line for line in agent.stdout if "hanging" in line)
        started_s = time.monotonic()
        agent.send_signal(signal.SIGTERM)
        rest = agent.stdout.read()
        agent.wait(timeout=20)
        assert time.monotonic() - started_s < 5
        assert agent.returncode == 0, rest
        assert "Traceback" not in rest


def _upload_repeatedly(port: int, agent: subprocess.Popen[str]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False, trust_env=False) as client:
        while agent.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                client.post("/predict", content=digit_png())


def test_systemd_gets_ready_status_watchdog_and_stopping(tmp_path: Path) -> None:
    with NotifySocket() as systemd:
        environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "400000"}
        with RunningAgent(tmp_path, environment=environment, cameras={"front": _CAMERA}) as agent:
            ready = systemd.wait_for("READY=1")
            assert agent.get("/healthz").status_code == 200
            (status,) = (line for line in ready if line.startswith("STATUS="))
            assert f"HTTP {agent.url}/, " in status
            agent.drop(model_file(1))
            where = f"HTTP {agent.url}/, MQTT off, models digits from {tmp_path / 'models'}."
            systemd.wait_for(f"STATUS=Ready. {where}")
            for _ in range(3):
                systemd.wait_for("WATCHDOG=1", timeout_s=0.4)
            agent.process.send_signal(signal.SIGTERM)
            systemd.wait_for("STOPPING=1")
            agent.process.wait(timeout=5)
            assert agent.process.returncode == 0


def test_no_watchdog_message_is_sent_if_systemd_sets_no_watchdog(tmp_path: Path) -> None:
    with NotifySocket() as systemd, RunningAgent(tmp_path, environment={"NOTIFY_SOCKET": systemd.address}) as agent:
        systemd.wait_for("READY=1")
        agent.process.send_signal(signal.SIGTERM)
        assert systemd.wait_for("STOPPING=1") == ["STOPPING=1"]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path, taken_port: int) -> None:
    line = _last_line(RunningAgent(tmp_path, http={"port": taken_port}), exit_code=1)
    assert f"127.0.0.1:{taken_port}: Address already in use" in line


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"models": {"folder": "nowhere"}}, "nowhere is not a folder. Create it (mkdir -p "),
        ({"http": {"host": "192.0.2.1"}}, "http: cannot listen on 192.0.2.1:0: Cannot assign requested address."),
    ],
    ids=["no folder", "foreign address"],
)
def test_a_missing_resource_ends_the_start_with_1_so_that_systemd_retries(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    assert message in _last_line(RunningAgent(tmp_path, **config), exit_code=1)


@pytest.mark.parametrize("key", ["device.state_folder", "models.folder"])
def test_a_folder_that_this_user_may_not_use_is_reported_in_one_line_with_the_remedy(tmp_path: Path, key: str) -> None:
    closed = tmp_path / "closed"
    inner = closed / "inner"
    inner.mkdir(parents=True)
    section, name = key.split(".")
    agent = RunningAgent(tmp_path, under=AS_ORDINARY_USER, **{section: {name: "closed/inner"}})
    closed.chmod(0o000)
    line = _last_line(agent, exit_code=1)
    closed.chmod(0o700)
    assert f"edge-agent: {key} {inner} cannot be used: Permission denied. The user " in line
    assert line.endswith(f"may not enter {closed}. Allow it: chmod u+x {closed}.")


@pytest.mark.long
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"models": {"foldr": "models"}}, "agent.yaml, line 8: unknown key models.foldr; did you mean folder?"),
        ({"mqtt": {"enabled": True, "password_file": "models"}}, "models cannot be read: Is a directory."),
        ({"mqtt": {"enabled": True, "password_file": "nowhere"}}, "nowhere cannot be read: No such file or directory."),
        ({"mqtt": {"enabled": True, "host": "a..b"}}, "mqtt.host is 'a..b', which is not a valid host name"),
        ({"cameras": {"front": {}}}, "cameras.front has neither the key source nor the key command"),
    ],
    ids=["unknown key", "password folder", "no password", "bad host", "no source"],
)
def test_a_configuration_error_is_reported_in_one_line_with_exit_code_2(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    assert message in _last_line(RunningAgent(tmp_path, **config), exit_code=2)


@pytest.mark.mosquitto
def test_json_logs_have_one_object_per_line(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path) as broker,
        _agent_at(broker, tmp_path, logging={"format": "json", "level": "debug"}) as agent,
    ):
        agent.drop(b"not a model", "bad")
        agent.post("/predict", content=b"not an image")
        wait_until(lambda: agent.rejection("bad"), what="the bad model is refused")
        broker.kill()
        wait_until(lambda: "closed the connection" in agent.log, what="the lost broker is logged")
        agent.end()
    lines = [line for line in agent.log.splitlines() if line != _FOREIGN]
    records = [json.loads(line) for line in lines]
    assert len(records) > 5
    assert {record["log.level"] for record in records} <= {"debug", "info", "warning", "error"}
    assert {(record["service.name"], record["device.id"]) for record in records} == {("edge-agent", "test")}
    assert {record.get("labels.model") for record in records} == {None, "bad", "digits"}
    messages = [record["message"] for record in records]
    assert "Stopping." in messages
    assert any("bad.tflite" in message for message in messages)


def test_the_service_imports_neither_tensorflow_nor_grpc_nor_terminal_libraries() -> None:
    script = "import agent.cli, agent.service, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout.split()
    assert "fastapi" in loaded
    assert not {
        "tensorflow",
        "keras",
        "converter",
        "rich",
        "amqtt",
        "httpx",
        "PIL",
        "matplotlib",
        "grpc",
        "google",
    } & set(loaded)


def test_a_running_agent_has_loaded_no_tensorflow(tmp_path: Path) -> None:
    with RunningAgent(tmp_path) as agent:
        agent.drop(model_file(1))
        wait_until(lambda: agent.post("/predict", content=digit_png()).is_success, what="the model serves")
        mapped = _proc(agent, "maps")
    assert "ai_edge_litert" in mapped or "tflite_runtime" in mapped
    assert "site-packages/tensorflow/" not in mapped


def _agent_at(broker: Mosquitto, folder: Path, **config: Any) -> RunningAgent:
    agent = RunningAgent(
        folder,
        mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port},
        cameras={"front": {**_CAMERA, "model": "digits"}},
        **config,
    )
    agent.drop(model_file(1))
    return agent


def _last_line(agent: RunningAgent, *, exit_code: int) -> str:
    """The single line that an agent writes if it cannot start."""
    agent.start()
    assert agent.process.wait(timeout=20) == exit_code, agent.log
    (line,) = agent.log.splitlines()
    assert line.startswith("edge-agent: ")
    return line


def _catches(agent: RunningAgent, number: signal.Signals) -> bool:
    (mask,) = (line.split()[1] for line in _proc(agent, "status").splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) & 1 << (number - 1))


def _proc(agent: RunningAgent, file: str) -> str:
    return Path(f"/proc/{agent.process.pid}/{file}").read_text()
