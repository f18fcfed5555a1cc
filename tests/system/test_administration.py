"""Tests install.sh after what administrators do to a system, its Python and the unit.

The tests of a system depend on each other, in this order.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from system.bed import booted_bed
from system.probes import COPY_AS_NEXT, SERVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.bed import Bed
    from system.measured import Note

_SUITES = os.environ.get("BEDS", "bookworm trixie").split()
_HOME = "/opt/edge-agent"
_INSTALL = "/mnt/good/deploy/systemd/install.sh"
_UPGRADE = "/mnt/next/deploy/systemd/install.sh --upgrade"
_DOWNGRADE = f"{_INSTALL} --upgrade"
_ENABLED = "systemctl is-enabled edge-agent || true"

# What ROS, Jetson's tools and administrators leave in the environment, and in /etc/pip.conf.
_HOSTILE = (
    "export PYTHONPATH=/tmp/trap PYTHONHOME=/tmp/trap PYTHONWARNINGS=error PYTHONOPTIMIZE=2 CDPATH=/mnt "
    "PIP_TARGET=/tmp/target PIP_PREFIX=/tmp/prefix PIP_DRY_RUN=1 PIP_NO_DEPS=0 PIP_NO_BINARY=:all: "
    "EDGE_AGENT_MQTT__PORT=none PATH=/usr/local/bin:/usr/bin:/bin"
)
_PIP_CONF = (
    r"[global]\nuser = true\nconstraint = /etc/constraints\nrequire-virtualenv = maybe\n[install]\nroot = /tmp/root\n"
)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=_SUITES)
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A booted system with a person named edge-agent."""
    suite = str(request.param)
    with booted_bed(suite, tmp_path_factory.mktemp(suite)) as bed:
        bed.run("useradd --create-home --shell /bin/bash edge-agent; useradd --create-home stranger")
        yield bed


@pytest.fixture(scope="module")
def installed(bed: Bed, note: Note) -> str:
    """The output of install.sh, called by a link, in a hostile environment, from a folder that only root can read."""
    bed.run("mkdir /tmp/trap; echo 'raise SystemExit(\"trapped\")' | tee /tmp/trap/typing.py >/tmp/trap/encodings.py")
    bed.run(f"printf '{_PIP_CONF}' >/etc/pip.conf; echo 'numpy<1' >/etc/constraints")
    bed.run("cp -r /mnt/good /root/bundle; chmod -R go-rwx /root/bundle")
    bed.run("ln -s /root/bundle/deploy/systemd/install.sh /usr/local/bin/install-edge-agent")
    started_s = time.monotonic()
    output = bed.run(f"{_HOSTILE}; cd /root; install-edge-agent")
    note("install.sh in a hostile environment", f"{time.monotonic() - started_s:.0f} s")
    bed.run("rm -r /root/bundle /usr/local/bin/install-edge-agent")
    return output


@pytest.fixture
def serving(bed: Bed, installed: str) -> Bed:
    bed.run("cp /mnt/good/demo/digits.tflite /var/lib/edge-agent/models/")
    bed.wait_for(SERVES)
    return bed


@pytest.fixture
def with_next(serving: Bed) -> Bed:
    """The version of the bundle `next` exists, but is not current: a copy, which takes less time than pip."""
    serving.run(COPY_AS_NEXT)
    return serving


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--bundle", "--bundle needs the folder of an unpacked bundle."),
        ("--bundle --upgrade", "--bundle needs the folder of an unpacked bundle."),
        ("--bundle /mnt/good/for", "/mnt/good/for is a file. Unpack it (tar xf), and give --bundle the folder."),
        ("--bundle /nowhere", "The folder /nowhere does not exist. Give --bundle the folder of an unpacked bundle."),
        ("--uninstall --upgrade", "Give only one of --upgrade, --tensorflow, --uninstall and --purge."),
    ],
)
def test_wrong_arguments_are_refused(bed: Bed, arguments: str, sentence: str) -> None:
    answer = bed.attempt(f"{_INSTALL} {arguments}")
    assert answer.returncode in (1, 2)
    assert answer.stdout.splitlines()[0] == f"edge-agent: {sentence}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=9M", "/data has 9 MB free, but 700 MB are needed."),
        ("noexec", "/data is mounted with the option noexec, so the agent's programs cannot run there."),
        ("ro", "/data is mounted read-only."),
    ],
)
def test_an_unsuitable_disk_behind_a_link_is_refused(bed: Bed, options: str, words: str) -> None:
    bed.run(f"mkdir -p /data; mount -t tmpfs -o {options} tmpfs /data; ln -s /data/agent {_HOME}")
    answer = bed.attempt(_INSTALL)
    bed.run(f"umount /data; rm {_HOME}")
    assert answer.returncode == 1
    assert answer.stdout.startswith(f"edge-agent: {words}")
    assert len(answer.stdout.splitlines()) == 1


def test_install_ignores_variables_and_settings_that_steer_python_and_pip(serving: Bed, installed: str) -> None:
    assert "HTTP http://127.0.0.1:8501" in installed
    serving.run("! ls -d /tmp/target /tmp/prefix /tmp/root /root/.local")


def test_install_makes_files_that_everyone_can_read(serving: Bed) -> None:
    assert serving.run(f"find {_HOME}/ -not -perm -o=r -not -type l") == ""
    serving.run(f"runuser -u stranger -- cat {_HOME}/current/system/drop-ins/network.conf")


def test_the_commands_ignore_the_variables_of_python(serving: Bed) -> None:
    for command in ("edge-agent --version", f"{_HOME}/current/bin/edge-convert --version"):
        serving.run(f"export PYTHONPATH=/tmp/trap PYTHONHOME=/tmp/trap PYTHONWARNINGS=error; {command}")
    serving.override("python", "Environment=PYTHONPATH=/tmp/trap PYTHONHOME=/tmp/trap")
    serving.run("systemctl restart edge-agent")
    serving.override("python")
    serving.wait_for(SERVES)


def test_a_missing_package_is_named_with_the_remedy(serving: Bed) -> None:
    typer = f"{_HOME}/current/lib/python3.*/site-packages/typer"
    serving.run(f"mv {typer} /tmp/typer")
    answer = serving.attempt("edge-agent --version")
    serving.run(f"mv /tmp/typer $(dirname {_HOME}/current/lib/python3.*/site-packages/pydantic)")
    assert answer.returncode == 2
    assert answer.stdout.endswith(
        "are damaged (No module named 'typer'). Repair them: sudo deploy/systemd/install.sh\n"
    )


def test_another_python_after_an_upgrade_of_the_system_is_explained_and_repaired(serving: Bed) -> None:
    """With a version for Python 3.9, and another one that counts as complete though nothing was installed."""
    serving.run(
        f"cd {_HOME}; old=$(readlink current); mv $old versions/0.0.9-before; ln -sfn versions/0.0.9-before current; "
        f"mv current/lib/python3.* current/lib/python3.9; mkdir $old; touch $old/complete"
    )
    serving.attempt("systemctl restart edge-agent")
    sentence = "This version was installed for Python 3.9, but the system now has Python 3."
    remedy = "Run: sudo deploy/systemd/install.sh --upgrade"
    for output in (serving.journal(), serving.attempt("edge-agent doctor").stdout):
        assert sentence in output
        assert remedy in output
    assert serving.show("NRestarts") == "0"
    output = serving.run(f"{_INSTALL} --upgrade")
    assert "does not run; it is made again." in output
    assert "Upgraded from 0.0.9-before to" in output
    serving.wait_for(SERVES)


def test_a_configuration_that_the_service_cannot_read_is_repaired(serving: Bed) -> None:
    config = "/etc/edge-agent/agent.yaml"
    serving.run(f"chmod 600 {config}; chown root:root {config}; chmod 700 /etc/edge-agent")
    assert "The service could not read /etc/edge-agent/agent.yaml. It can again" in serving.run(_INSTALL)
    assert serving.run(f"stat --format '%U:%G %a' {config}") == "root:edge-agent 640"
    serving.run("systemctl restart edge-agent")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("ExecStart=", "edge-agent.service: Service has no ExecStart="),
        ("ExecStart=/bin/true", "Service has more than one ExecStart= setting"),
        ("ExecStartPre=/usr/local/bin/gone", "/usr/local/bin/gone is not executable"),
        ("User=unknown", "status=217/USER"),
        ("WorkingDirectory=/nowhere", "status=200/CHDIR"),
        ("[Unit]\nConditionPathExists=/nowhere", "skipped"),
        ("Environment=EDGE_AGENT_HTTP__PORT=none", "EDGE_AGENT_HTTP__PORT"),
    ],
)
def test_an_upgrade_does_not_stop_the_service_if_its_settings_cannot_work(
    with_next: Bed, settings: str, words: str
) -> None:
    serving = with_next
    pid, current = serving.show("MainPID"), serving.run(f"readlink {_HOME}/current")
    serving.override("wrong", settings)
    answer = serving.attempt(_UPGRADE)
    serving.override("wrong")
    assert answer.returncode == 1
    assert words in answer.stdout
    assert "Nothing was changed" in answer.stdout
    assert serving.show("MainPID") == pid
    assert serving.run(f"readlink {_HOME}/current") == current
    serving.run("! ls /run/systemd/system/edge-agent-check.service")


def test_a_refused_drop_in_is_named_while_the_service_goes_on(serving: Bed) -> None:
    pid = serving.show("MainPID")
    serving.override("wrong", "ExecStart=")
    output = serving.run(_INSTALL)
    serving.override("wrong")
    assert "Fix the unit's drop-ins: /etc/systemd/system/edge-agent.service.d/wrong.conf" in output
    assert serving.show("MainPID") == pid


def test_an_upgrade_switches_a_masked_service_without_a_restart(with_next: Bed) -> None:
    serving = with_next
    pid = serving.show("MainPID")
    serving.run("systemctl mask edge-agent")
    output = serving.run(_UPGRADE)
    assert "edge-agent.service is masked, so it was not restarted." in output
    assert serving.show("MainPID") == pid
    serving.wait_for(SERVES)
    serving.run("systemctl unmask edge-agent; systemctl restart edge-agent")
    assert f"{serving.run(f'readlink -f {_HOME}/current')}/" in serving.run(
        f"tr '\\0' ' ' </proc/{serving.show('MainPID')}/cmdline"
    )
    assert serving.run(_ENABLED) == "enabled"


def test_an_upgrade_leaves_a_disabled_and_stopped_service_so(serving: Bed) -> None:
    serving.run("systemctl disable --now edge-agent")
    for command in (_DOWNGRADE, _INSTALL):
        output = serving.run(command)
        assert "edge-agent.service is disabled and stopped, and stays so. To start it: sudo systemctl" in output
        assert (serving.run(_ENABLED), serving.show("ActiveState")) == ("disabled", "inactive")
    serving.run("systemctl start edge-agent")
    assert "HTTP http://127.0.0.1:8501" in serving.run(_INSTALL)
    assert serving.run(_ENABLED) == "disabled"
    serving.run("systemctl enable edge-agent")
    serving.wait_for(SERVES)


def test_a_copy_of_the_unit_that_hides_it_is_named(serving: Bed) -> None:
    serving.run("cp /usr/local/lib/systemd/system/edge-agent.service /etc/systemd/system/")
    output = serving.run(_INSTALL)
    serving.run("rm /etc/systemd/system/edge-agent.service; systemctl daemon-reload")
    assert "systemd uses /etc/systemd/system/edge-agent.service instead of the unit of this version" in output


def test_a_python_that_is_gone_is_explained(serving: Bed) -> None:
    python = f"{_HOME}/current/bin/python"
    serving.run(f"mv {python} /tmp/python; ln -s /usr/bin/python3.9 {python}")
    answer = serving.attempt("edge-agent doctor")
    serving.run(f"mv /tmp/python {python}")
    assert answer.returncode == 1
    assert answer.stdout.startswith("edge-agent: /usr/bin/python3.9, the Python of this installation, does not exist")


def test_purge_removes_only_what_install_made(serving: Bed) -> None:
    serving.run("mkdir /srv/models; touch /srv/models/mine; mount --bind /srv/models /var/lib/edge-agent/models")
    serving.run("runuser -u edge-agent -- sleep 600 >/dev/null 2>&1 &")
    output = serving.run(f"{_UPGRADE.replace('--upgrade', '--purge')}")
    assert output == (
        "edge-agent: Removed everything except: /var/lib/edge-agent/models, where a disk is mounted; "
        "the user edge-agent, which install.sh did not create; the group edge-agent, which install.sh did not create."
    )
    serving.run("ls /srv/models/mine; id edge-agent; ls -d /home/edge-agent; ! getent group edge-models")
    serving.run(f"! ls -d /etc/edge-agent {_HOME} /var/lib/edge-agent/state")
    serving.run("umount /var/lib/edge-agent/models; pkill -u edge-agent; rm -r /var/lib/edge-agent")
    serving.wait_for("userdel edge-agent")  # once its process has ended


def test_purge_goes_on_when_something_cannot_be_removed(bed: Bed) -> None:
    """With the folders and accounts that install.sh makes, but without its packages."""
    bed.run(
        "useradd --system edge-agent; groupadd edge-models; mkdir -p /data/agent/models /data/agent/state /data/more"
    )
    bed.run("ln -s /data/agent /var/lib/edge-agent; touch /data/agent/models/digits.tflite /data/agent/state/lock")
    bed.run("printf '%s\n' 'passwd edge-agent' 'group edge-agent' 'group edge-models' >/data/agent/.accounts")
    bed.run("mkdir /etc/edge-agent; mount -t tmpfs tmpfs /etc/edge-agent; touch /etc/edge-agent/agent.yaml")
    bed.run("setpriv --reuid edge-agent --clear-groups sleep 600 >/dev/null 2>&1 &")
    output = bed.run(f"{_INSTALL} --purge 2>&1")
    assert output.startswith("edge-agent: Removed everything except: /etc/edge-agent; the user edge-agent (")
    assert "edge-agent is currently used by process" in output
    bed.run("! ls -d /data/agent; ls -d /data/more; ! ls -d /var/lib/edge-agent; ! ls /etc/edge-agent/agent.yaml")
    bed.run("! getent group edge-models; pkill -u edge-agent; umount /etc/edge-agent")
