"""Test beds: containers booted by a real systemd. Changes in a container are discarded when it stops, unless kept."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from system.bundles import unpack_material
from system.guest import Guest
from system.nspawn import in_group, init_of, kill, remove_group
from system.root import missing_for_bed, skip_or_fail, system_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHONS = {"jammy": "3.10", "bookworm": "3.11", "trixie": "3.13"}


@contextlib.contextmanager
def booted_bed(suite: str, folder: Path, *, more: Mapping[str, Path] = MappingProxyType({})) -> Iterator[Bed]:
    """Starts a bed with the material of system.bundles in /mnt, and `more` folders by their names there.

    Skips the test if that is impossible.
    """
    if reason := missing_for_bed():
        skip_or_fail(reason)
    try:
        material = unpack_material(PYTHONS[suite], folder)
        for name in more:
            (material / name).mkdir()
        root = system_root(suite)
    except FileNotFoundError as error:
        skip_or_fail(f"dist/ has no {error}: run make test-system")
    except subprocess.CalledProcessError as error:
        skip_or_fail(f"{suite} cannot be installed: {error}")
    binds = {f"/mnt/{name}": path for name, path in more.items()}
    with Bed(root, material, folder / "boot.log", binds=binds) as bed:
        yield bed


class Bed(Guest):
    """A container with only the loopback network; `material` is mounted read-only as /mnt.

    `binds` are more folders by the paths that they have inside, which must exist. With `keep`, changes stay in `root`.
    """

    ENVIRONMENT: ClassVar[dict[str, str]] = {}
    HAS_STARTED = "systemctl is-system-running"

    def __init__(
        self,
        root: Path,
        material: Path,
        log: Path,
        *,
        keep: bool = False,
        binds: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        self._command = ["systemd-nspawn", "--boot", "--directory", str(root)]
        self._command += [f"--volatile={'no' if keep else 'overlay'}"]
        self._command += ["--register=no", "--keep-unit", "--console=read-only", "--private-network"]
        self._name = f"bed-{uuid.uuid4().hex[:8]}"
        self._command += [f"--bind-ro={material}:/mnt", "--machine", self._name]
        self._command += [f"--bind-ro={folder}:{inside}" for inside, folder in binds.items()]
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            command = in_group(self._name, self._command)
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_for(self.HAS_STARTED, timeout_s=60)
        except BaseException:
            kill(self._nspawn)
            remove_group(self._name)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        subprocess.run(
            ["kill", "-s", "SIGRTMIN+4", str(init_of(self._nspawn))], check=False
        )  # systemd powers off on this signal
        try:
            self._nspawn.wait(timeout=30)
        except subprocess.TimeoutExpired:
            kill(self._nspawn)
        remove_group(self._name)

    def attempt(self, script: str, *, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return subprocess.run(
            [
                "nsenter",
                "--target",
                str(init_of(self._nspawn)),
                *namespaces,
                "bash",
                "-euo",
                "pipefail",
                "-c",
                f"cd /\n{script}",
            ],
            env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **self.ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    @property
    def network(self) -> list[str]:
        """In front of a command of this machine: runs it in the container's network."""
        return ["nsenter", "--net", f"--target={init_of(self._nspawn)}", "--"]

    def log_if_ended(self) -> str | None:
        return None if self._nspawn.poll() is None else self._log.read_text(errors="replace")
