"""Tests install.sh and the unit under a real systemd. The tests of a system depend on each other, in this order.

The variable BEDS lists the systems; default: Debian 12 and 13. jammy is Ubuntu 22.04, the base of JetPack 6.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from peers.rtsp_server import RtspServer
from system import service_cameras
from system.bed import booted_bed
from system.probes import COMPARE, COPY_AS_NEXT, PIP_FROM, REMEMBER, SERVES, UPLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.bed import Bed
    from system.measured import Note

_SUITES = os.environ.get("BEDS", "bookworm trixie").split()
_INSTALL = "/mnt/{0}/deploy/systemd/install.sh"

pytestmark = [pytest.mark.first, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=_SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bed(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A booted system without edge-agent. A denied system call kills the service, so that tests notice it."""
    with booted_bed(suite, tmp_path_factory.mktemp(suite)) as bed:
        bed.run("useradd --create-home ann; useradd --create-home stranger")
        bed.run(REMEMBER)
        bed.override("strict", "SystemCallErrorNumber=kill")
        yield bed


@pytest.mark.parametrize(
    ("made_for", "words"),
    [
        ("aarch64 3.10 3.11 3.13", "This bundle is for aarch64, but this machine is x86_64."),
        ("x86_64 3.9", "Python 3.9 is required, but Python 3."),
    ],
)
def test_a_bundle_for_another_machine_or_python_is_refused(bed: Bed, made_for: str, words: str) -> None:
    bed.run(f"cp -rs /mnt/good /tmp/wrong; rm /tmp/wrong/for; echo {made_for} >/tmp/wrong/for")
    answer = bed.attempt(f"trap 'rm -r /tmp/wrong' EXIT; {_INSTALL.format('good')} --bundle /tmp/wrong")
    assert answer.stdout.startswith(f"edge-agent: {words}")


@pytest.fixture(scope="module")
def installed(bed: Bed, suite: str, note: Note) -> str:
    """The output of install.sh, run by ann with sudo for a new installation."""
    started_s = time.monotonic()
    output = bed.run(f"SUDO_USER=ann {_INSTALL.format('good')} --bundle /mnt/good")
    note(f"{suite}, install.sh from nothing to ready", f"{time.monotonic() - started_s:.0f} s")
    return output


@pytest.fixture
def serving(bed: Bed, installed: str) -> Bed:
    """The installed agent serves a model that ann dropped."""
    bed.run("runuser -u ann -- cp /mnt/good/demo/digits.tflite /var/lib/edge-agent/models/")
    bed.wait_for(SERVES)
    return bed


def test_install_prints_the_next_steps_once_the_service_is_ready(bed: Bed, installed: str) -> None:
    assert "No model is served yet. HTTP http://127.0.0.1:8501" in installed
    assert "drop .tflite files into /var/lib/edge-agent/models (as ann" in installed
    assert bed.show("ActiveState") == "active"
    assert bed.run("systemctl is-enabled edge-agent") == "enabled"


def test_a_second_call_does_not_restart_the_service_or_change_the_configuration(bed: Bed, installed: str) -> None:
    pid = bed.show("MainPID")
    bed.run("echo '# mine' >>/etc/edge-agent/agent.yaml")
    assert "HTTP http://127.0.0.1:8501" in bed.run(_INSTALL.format("good"))
    assert bed.show("MainPID") == pid
    assert "# mine" in bed.run("cat /etc/edge-agent/agent.yaml")


def test_a_user_of_a_directory_service_can_run_install(bed: Bed, installed: str) -> None:
    assert "HTTP http://127.0.0.1:8501" in bed.run(f"SUDO_USER=jo@corp.example {_INSTALL.format('good')}")


def test_install_imports_no_python_file_from_the_working_directory(bed: Bed, installed: str) -> None:
    folder = "/var/lib/edge-agent/models"
    bed.run(f'runuser -u ann -- sh -c \'echo "open(\\"/tmp/trapped\\", \\"w\\")" >{folder}/struct.py\'')
    assert bed.attempt(f"cd {folder}; python3 -c 'import struct'; test -e /tmp/trapped").returncode == 0
    bed.run(f"rm /tmp/trapped; cd {folder}; {_INSTALL.format('good')}")
    bed.run(f"rm {folder}/struct.py; ! test -e /tmp/trapped")


def test_the_doctor_explains_that_the_unit_hides_the_source_of_a_camera(bed: Bed, installed: str) -> None:
    bed.run("install -o ann /mnt/good/demo/digit.jpg /home/ann/film.mp4")
    bed.override("film", "Environment=EDGE_AGENT_CAMERAS__film__SOURCE=/home/ann/film.mp4")
    bed.run("systemctl restart edge-agent")
    bed.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep 'Camera film is lost'")
    findings = json.loads(bed.run("edge-agent doctor --json || true"))
    facts = [each["fact"] for each in findings if each["about"] == "camera film"]
    assert "The unit hides /home/ann/film.mp4 from the service." in facts
    bed.override("film")
    bed.run("rm /home/ann/film.mp4; systemctl restart edge-agent")


def test_another_version_is_refused_without_the_upgrade_option(bed: Bed, installed: str) -> None:
    answer = bed.attempt(_INSTALL.format("next"))
    assert answer.returncode == 1
    assert answer.stdout.startswith("edge-agent: Version ")
    assert "run: sudo" in answer.stdout


def test_systemd_verifies_the_unit_and_rates_its_exposure_at_most_1_5(bed: Bed, installed: str) -> None:
    output = bed.run("systemd-analyze verify edge-agent.service 2>&1")  # Ubuntu reports faults of its own units too
    assert [line for line in output.splitlines() if "edge-agent" in line] == []
    output = bed.run("systemd-analyze security --no-pager edge-agent.service | tail -1")
    found = re.search(r": ([\d.]+) ", output)
    assert found is not None
    assert float(found[1]) <= 1.5


def test_the_service_notifies_systemd_when_it_is_ready(bed: Bed, installed: str, suite: str, note: Note) -> None:
    took_s = []
    for _ in range(3):
        bed.run("systemctl restart edge-agent")
        stamps = [int(bed.show(key)) for key in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")]
        took_s.append((stamps[1] - stamps[0]) / 1e6)
    note(f"{suite}, from start to ready, best of three", f"{min(took_s):.1f} s")


def test_a_member_of_the_group_can_drop_a_model(serving: Bed) -> None:
    assert _answer(serving.run(UPLOAD))["label"] in "0123456789"


def test_other_users_cannot_read_models_state_or_configuration(serving: Bed) -> None:
    assert serving.attempt("runuser -u stranger -- ls /var/lib/edge-agent/models").returncode != 0
    assert serving.attempt("runuser -u ann -- ls /var/lib/edge-agent/state").returncode != 0
    assert serving.attempt("runuser -u stranger -- cat /etc/edge-agent/agent.yaml").returncode != 0


def test_a_member_of_the_group_can_read_a_rejection_and_remove_the_model(serving: Bed) -> None:
    note = "/var/lib/edge-agent/models/bad.tflite.rejected.txt"
    serving.run("runuser -u ann -- sh -c 'echo no model >/var/lib/edge-agent/models/bad.tflite'")
    serving.wait_for(f"runuser -u ann -- cat {note}")
    serving.run(f"runuser -u ann -- rm {note.removesuffix('.rejected.txt')}")
    serving.wait_for(f"! test -e {note}")


def test_results_are_published_to_mosquitto(serving: Bed) -> None:
    serving.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep '\"connected\"'")
    listen = "mosquitto_sub -t edge-agent/+/uploads/result -C 1 -W 10"
    heard = serving.run(f"{listen} >/tmp/heard & sleep 0.5; {UPLOAD} >/tmp/answer; wait; cat /tmp/heard")
    assert json.loads(heard)["id"] == _answer(serving.run("cat /tmp/answer"))["id"]


@pytest.fixture(scope="module")
def stream(bed: Bed) -> Iterator[dict[str, object]]:
    """A live camera in the container's network, as the configuration names it."""
    with RtspServer(pattern="ball", enter=bed.network) as server:
        yield {"source": server.url(), "score_threshold": 0.0}


def test_live_cameras_are_read_in_processes_of_their_own(
    serving: Bed, stream: dict[str, object], suite: str, note: Note
) -> None:
    serving.run("cp -p /etc/edge-agent/agent.yaml /tmp/no-camera.yaml")
    service_cameras.set_cameras(serving, {"front": stream, "yard": {**stream, "transport": "udp"}})
    serving.run("systemctl reload-or-restart edge-agent")
    for camera in ("front", "yard"):
        service_cameras.wait_for_results(serving, camera)
    agent = service_cameras.memory_mb(serving, serving.show("MainPID"))
    processes = service_cameras.capture_processes(serving)
    each = " and ".join(f"{service_cameras.memory_mb(serving, pid):.0f} MB" for pid in processes)
    note(f"{suite}, two RTSP cameras", f"{agent:.0f} MB, and {each} of their processes")
    assert len(processes) == 2


def test_reload_changes_cameras_while_the_frames_of_another_one_go_on(serving: Bed, stream: dict[str, object]) -> None:
    pid, before = serving.show("MainPID"), service_cameras.capture_processes(serving)
    opened = serving.journal().count("Camera front is ")
    service_cameras.set_cameras(serving, {"front": stream, "side": stream})
    serving.run("systemctl reload edge-agent")
    service_cameras.wait_for_results(serving, "side")
    service_cameras.wait_for_results(serving, "front")
    after = service_cameras.capture_processes(serving)
    assert (len(before & after), len(after)) == (1, 2)  # that of yard has ended, and that of front has not
    assert serving.journal().count("Camera front is ") == opened
    assert (serving.show("MainPID"), serving.show("NRestarts")) == (pid, "0")


def test_inbox_is_answered_once_the_documented_drop_in_allows_it(serving: Bed) -> None:
    create, drop_in, cameras = service_cameras.documented_inbox()
    serving.run(f"{create}; {create.replace('/srv/inbox', '/srv/done')}")
    service_cameras.set_cameras(serving, {name: {**each, "after": "move:/srv/done"} for name, each in cameras.items()})
    serving.run("systemctl reload edge-agent")
    serving.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep 'add ReadWritePaths=-/srv/inbox'")
    service_cameras.edit_unit(serving, f"{drop_in}{drop_in.replace('/srv/inbox', '/srv/done')}")
    serving.run("systemctl restart edge-agent; runuser -u ann -- cp /mnt/good/demo/digit.jpg /srv/inbox/photo.jpg")
    serving.wait_for("runuser -u ann -- cat /srv/done/photo.jpg >/tmp/moved")
    answer = _answer(serving.run("runuser -u ann -- cat /srv/inbox/photo.jpg.json"))
    assert answer["categories"][0]["label"] == "3"
    serving.run("cmp /tmp/moved /mnt/good/demo/digit.jpg; ! test -e /srv/inbox/photo.jpg")
    service_cameras.undo_edit(serving)
    serving.run("cp -p /tmp/no-camera.yaml /etc/edge-agent/agent.yaml; rm -r /srv/inbox /srv/done")
    serving.run("systemctl restart edge-agent")
    serving.wait_for(service_cameras.READY)


def test_systemd_passes_the_mqtt_password_from_a_file_owned_by_root(serving: Bed) -> None:
    serving.run("mosquitto_passwd -b -c /etc/mosquitto/users pi sesame; chmod 644 /etc/mosquitto/users")
    serving.run("printf 'allow_anonymous false\\npassword_file /etc/mosquitto/users\\n' >/etc/mosquitto/conf.d/pi.conf")
    serving.override("broker", "Environment=EDGE_AGENT_MQTT__USERNAME=pi")
    serving.run("systemctl restart mosquitto edge-agent")
    serving.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep 'refuses this agent: Not authorized'")
    serving.run("echo sesame | install -m 600 /dev/stdin /etc/edge-agent/mqtt_password; systemctl restart edge-agent")
    serving.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep '\"connected\"'")
    output = serving.run("edge-agent doctor --json || true")
    facts = {each["about"]: each["fact"] for each in json.loads(output)}
    assert facts["broker"] == "localhost:1883 accepts user pi (MQTT 5)"
    assert facts["delegate"] == "XNNPACK runs the newest model"
    serving.override("broker")
    serving.run("rm /etc/mosquitto/conf.d/pi.conf /etc/mosquitto/users /etc/edge-agent/mqtt_password")
    serving.run("systemctl restart mosquitto edge-agent; rm -f /var/lib/mosquitto/mosquitto.db")


def test_an_idle_service_uses_at_most_1_percent_cpu_and_120_mb(serving: Bed, suite: str, note: Note) -> None:
    serving.run("systemctl restart edge-agent")
    serving.wait_for(SERVES)
    time.sleep(3)  # until the start has finished
    stat = "awk '{print $14 + $15}' /proc/$(systemctl show --property MainPID --value edge-agent)/stat"
    before = int(serving.run(stat))
    time.sleep(10)
    share = (int(serving.run(stat)) - before) / os.sysconf("SC_CLK_TCK") / 10
    status = serving.run(f"cat /proc/{serving.show('MainPID')}/status")
    resident_mb = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024
    note(f"{suite}, idle with one small model", f"{100 * share:.1f} % of a core, {resident_mb:.0f} MB")
    assert share <= 0.01
    assert resident_mb <= 120


def test_the_watchdog_restarts_a_service_that_hangs(serving: Bed, suite: str, note: Note) -> None:
    serving.override("watchdog", "WatchdogSec=2")
    serving.run("systemctl restart edge-agent")
    started_s = time.monotonic()
    serving.run(f"kill -STOP {serving.show('MainPID')}")
    serving.wait_for("test $(systemctl show -P NRestarts edge-agent) = 1 && systemctl is-active edge-agent")
    note(f"{suite}, from a hang to ready again (WatchdogSec=2)", f"{time.monotonic() - started_s:.1f} s")
    serving.override("watchdog")
    assert "Watchdog timeout" in serving.journal()
    serving.wait_for(SERVES)


def test_kill_9_loses_no_model_and_no_waiting_result(serving: Bed, suite: str, note: Note) -> None:
    keeper = "mosquitto_sub -i keeper -c -q 1 -t edge-agent/+/uploads/result"
    serving.run(f"{keeper} -E")
    serving.run("pkill -STOP -x mosquitto")  # the container's broker: it hangs but keeps its sessions
    made = {_answer(serving.run(UPLOAD))["id"] for _ in range(5)}
    time.sleep(4)  # mqtt.durability: spill writes results that have waited for 2 s
    started_s = time.monotonic()
    serving.run(f"kill -KILL {serving.show('MainPID')}")
    serving.wait_for("test $(systemctl show -P NRestarts edge-agent) -ge 1 && systemctl is-active edge-agent")
    serving.wait_for(SERVES)
    note(f"{suite}, from kill -9 to serving again", f"{time.monotonic() - started_s:.1f} s")
    serving.run("pkill -CONT -x mosquitto")
    serving.run(f"timeout 60 {keeper} >/tmp/kept 2>&1 &")
    for each in made:
        serving.wait_for(f"grep -qF {each} /tmp/kept")
    serving.run("pkill mosquitto_sub")


def test_an_invalid_configuration_is_logged_and_the_service_is_not_restarted(serving: Bed) -> None:
    serving.run("cp -p /etc/edge-agent/agent.yaml /tmp/good.yaml; echo 'htp: {}' >>/etc/edge-agent/agent.yaml")
    assert serving.attempt("systemctl restart edge-agent").returncode != 0
    time.sleep(5)
    assert [serving.show(key) for key in ("ActiveState", "NRestarts", "ExecMainStatus")] == ["failed", "0", "2"]
    assert "unknown key htp; did you mean http?" in serving.journal()
    serving.run("cp -p /tmp/good.yaml /etc/edge-agent/agent.yaml; systemctl restart edge-agent")


def test_a_configuration_that_the_service_may_not_read_is_named_with_the_command_that_allows_it(serving: Bed) -> None:
    path = "/etc/edge-agent/agent.yaml"
    serving.run(f"chown root:root {path}; chmod 600 {path}")
    assert serving.attempt("systemctl restart edge-agent").returncode != 0
    assert serving.show("ExecMainStatus") == "2"
    commands = f"sudo chgrp edge-agent {path}; sudo chmod g+r {path}"
    sentence = f"The user edge-agent may not read {path}. Allow it: {commands}."
    assert sentence in serving.journal()
    answer = serving.attempt(f"edge-agent check-config {path}")
    assert (answer.returncode, answer.stdout.strip()) == (2, f"edge-agent: agent.yaml: {sentence}")
    findings = json.loads(serving.attempt("edge-agent doctor --json").stdout)
    assert [each["level"] for each in findings if each["about"] == "agent.yaml"] == ["fault"]
    serving.run(f"{commands}; edge-agent check-config {path}; systemctl restart edge-agent")


def test_a_model_on_a_disk_serves_while_the_disk_is_missing(serving: Bed) -> None:
    folder, model = "/var/lib/edge-agent/models", "/mnt/good/demo/digits.tflite"
    mount = f"mount -t tmpfs disk {folder}; chown edge-agent:edge-models {folder}; chmod 2770 {folder}"
    serving.override("disk", "Environment=EDGE_AGENT_MODELS__RETIRE_AFTER_S=0.5")
    serving.run(f"{mount}; cp {model} {folder}; systemctl restart edge-agent; {SERVES}")
    serving.wait_for(f"grep folder_device.*$(stat --format=%d {folder}) /var/lib/edge-agent/state/models/history.json")
    serving.run(f"umount {folder}; rm {folder}/*.tflite")
    for _ in range(2):
        serving.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep 'its disk is probably not mounted'")
        time.sleep(2)  # models.retire_after_s and the time between two looks
        serving.run(f"{SERVES}; systemctl restart edge-agent")
    serving.run(f"{mount}; cp {model} {folder}/again.tflite")
    serving.wait_for("curl -sS http://127.0.0.1:8501/v1/models/again | grep AVAILABLE")
    serving.wait_for(f"! {SERVES}")
    serving.override("disk")
    serving.run(f"umount {folder}; systemctl restart edge-agent")


def test_an_upgrade_that_rejects_the_configuration_changes_nothing(serving: Bed) -> None:
    pid = serving.show("MainPID")
    serving.run(f"{COPY_AS_NEXT}; echo 'htp: {{}}' >>/etc/edge-agent/agent.yaml")
    answer = serving.attempt(f"{_INSTALL.format('next')} --upgrade")
    serving.run("cp -p /tmp/good.yaml /etc/edge-agent/agent.yaml")
    assert answer.returncode == 1
    assert "Nothing was changed." in answer.stdout
    assert serving.show("MainPID") == pid


@pytest.mark.parametrize("version", ["fails", "dies"])
def test_a_failed_upgrade_is_rolled_back(serving: Bed, suite: str, note: Note, version: str) -> None:
    before = serving.run("readlink /opt/edge-agent/current")
    started_s = time.monotonic()
    answer = serving.attempt(f"{_INSTALL.format(version)} --upgrade")
    note(f"{suite}, upgrade that {version}, to ready again", f"{time.monotonic() - started_s:.1f} s")
    assert answer.returncode == 1, answer.stdout
    assert "is running again" in answer.stdout
    assert serving.run("readlink /opt/edge-agent/current") == before
    assert serving.run("ls /opt/edge-agent/versions") == before.removeprefix("versions/")
    serving.wait_for(SERVES)
    assert "label" in _answer(serving.run(UPLOAD))


def test_an_interrupted_upgrade_is_rolled_back_at_the_next_boot(serving: Bed) -> None:
    before = serving.run("readlink /opt/edge-agent/current")
    started = f"setsid {_INSTALL.format('next')} --upgrade >/tmp/upgrade 2>&1 </dev/null &"
    switched = f"until [ $(readlink /opt/edge-agent/current) != {before} ]; do sleep 0.05; done"
    ended = "pkill -KILL --session $!; flock /run/edge-agent-install.lock true"  # a `sync` ends when it has written
    serving.run(f"{COPY_AS_NEXT}\n{started}\n{switched}\n{ended}")
    serving.run("systemctl stop edge-agent; systemctl start edge-agent-go-back edge-agent")  # as a boot does
    assert serving.run("readlink /opt/edge-agent/current") == before
    assert serving.run("ls /opt/edge-agent/versions") == before.removeprefix("versions/")
    assert serving.run("ls /opt/edge-agent") == "current\nversions"
    serving.wait_for(SERVES)


def test_an_upgrade_keeps_configuration_models_and_outbox(serving: Bed, suite: str, note: Note) -> None:
    before = serving.run("readlink /opt/edge-agent/current")
    version = _answer(serving.run(UPLOAD))["model"]
    started_s = time.monotonic()
    serving.run(f"{PIP_FROM.format('/mnt/index')}; echo 'target = /tmp/target' >>/etc/pip.conf")  # which must not count
    assert "Upgraded from" in serving.run(f"{_INSTALL.format('checkout')} --upgrade")
    serving.run("rm /etc/pip.conf")
    note(f"{suite}, upgrade, from a checkout", f"{time.monotonic() - started_s:.1f} s")
    assert serving.run("readlink /opt/edge-agent/current") != before
    assert len(serving.run("ls /opt/edge-agent/versions").split()) == 1
    assert "# mine" in serving.run("cat /etc/edge-agent/agent.yaml")
    assert serving.run("ls /var/lib/edge-agent/state/outbox") is not None
    serving.wait_for(SERVES)
    assert _answer(serving.run(UPLOAD))["model"] == version


def test_an_upgrade_closes_http_that_was_open_to_the_network_until_a_token_exists(serving: Bed) -> None:
    # As configurations of earlier versions: open to the network, without the new keys.
    old = "s/^  host: 127.0.0.1$/  host: 0.0.0.0/; /^  tokens_file:/d; /^  anonymous:/d"
    serving.run(f"cp -p /etc/edge-agent/agent.yaml /tmp/local.yaml; sed -i '{old}' /etc/edge-agent/agent.yaml")
    upgrade = serving.run(f"{_INSTALL.format('next')} --upgrade")
    assert "Upgraded from" in upgrade
    assert "Warning: HTTP at 0.0.0.0 answers 401 to every client" in upgrade
    code = "curl -sS -o /tmp/answer -w '%{http_code}' http://127.0.0.1:8501"
    assert [serving.run(f"{code}{path}") for path in ("/metrics", "/healthz")] == ["401", "200"]
    assert "HTTP at 0.0.0.0 answers 401 to every client" in serving.journal()
    findings = json.loads(serving.run("edge-agent doctor --json || true"))
    remedy = next(each["remedy"] for each in findings if each["about"] == "access")
    assert remedy == "sudo edge-agent token create NAME --scope infer"
    assert serving.attempt("runuser -u ann -- edge-agent token create ann --scope admin").returncode != 0
    serving.run("umask 077; edge-agent token create phone --scope infer 2>/dev/null >/tmp/phone")
    assert serving.run("stat -c '%U:%G %a' /var/lib/edge-agent/state/tokens").strip() == "edge-agent:edge-agent 600"
    serving.wait_for(
        'curl -sS -H "Authorization: Bearer $(cat /tmp/phone)" http://127.0.0.1:8501/v1/models/digits | grep AVAILABLE'
    )
    assert "digits" in serving.run("edge-agent models list --token-file /tmp/phone")
    serving.run("edge-agent token revoke phone")
    assert serving.run(f'{code}/metrics -H "Authorization: Bearer $(cat /tmp/phone)"') == "401"
    serving.run("rm /tmp/phone /tmp/answer /var/lib/edge-agent/state/tokens")
    serving.run("cp -p /tmp/local.yaml /etc/edge-agent/agent.yaml; systemctl restart edge-agent")
    serving.wait_for(SERVES)


def test_no_system_call_was_denied(serving: Bed) -> None:
    assert "SYS" not in re.findall(r"status=\d+/(\w+)", serving.journal())
    assert "SIGSYS" not in serving.journal()


def test_uninstall_keeps_the_data_of_the_user(bed: Bed, installed: str) -> None:
    bed.run(f"{_INSTALL.format('next')} --uninstall")
    assert bed.attempt("systemctl cat edge-agent || test -e /opt/edge-agent").returncode != 0
    bed.run("ls /etc/edge-agent/agent.yaml /var/lib/edge-agent/models/digits.tflite /var/lib/edge-agent/state")


def test_a_new_installation_serves_the_kept_model(bed: Bed, installed: str) -> None:
    bed.run(_INSTALL.format("next"))
    bed.wait_for(SERVES)
    assert "# mine" in bed.run("cat /etc/edge-agent/agent.yaml")


def test_purge_leaves_nothing_behind(bed: Bed, installed: str) -> None:
    bed.run(f"{_INSTALL.format('next')} --purge")
    assert bed.run(COMPARE) == ""


def _answer(text: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(text)
    return answer
