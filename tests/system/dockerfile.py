"""Reads a Dockerfile, and builds its stages with systemd-nspawn, since no container engine is available."""

from __future__ import annotations

import json
import re
import shlex
import string
import subprocess
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Yields each instruction, such as RUN, with its arguments joined into one line."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


def context(dockerfile: Path) -> list[str]:
    """The paths that .dockerignore, which excludes everything else, lets the engine see."""
    lines = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!")]


def copied(dockerfile: Path) -> set[str]:
    """The paths that it copies from the build context."""
    copies = [rest.split() for word, rest in instructions(dockerfile) if word == "COPY"]
    return {source for words in copies if not words[0].startswith("--from") for source in words[:-1]}


@dataclass
class Stage:
    """The state of a stage after the instructions so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    user: str = "root"
    folder: str = "/"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def nspawn(self, *options: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The systemd-nspawn command line, without the program to run."""
        variables = {**self.environment, **(environment or {})}
        return [
            *("systemd-nspawn", "--quiet", "--pipe", "--register=no", "--keep-unit"),
            *(f"--machine=image-{uuid.uuid4().hex[:8]}", f"--directory={self.root}"),
            *(f"--user={self.user.partition(':')[0]}", f"--chdir={self.folder}"),
            *(f"--setenv={name}={value}" for name, value in variables.items()),
            *options,
        ]


class Build:
    """Executes the instructions of a Dockerfile; an unknown instruction raises KeyError."""

    def __init__(self, *, sources: Path, base: Path, folder: Path, wheels: Path) -> None:
        """`base` replaces every image that is not a stage; pip finds packages only in `wheels`."""
        self._sources = sources
        self._base = base
        self._folder = folder
        self._options = [f"--bind-ro={wheels}:/wheels", "--resolv-conf=bind-host", "--as-pid2", "--suppress-sync=yes"]
        self._environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "DEBIAN_FRONTEND": "noninteractive"}
        self._stages: dict[str, Stage] = {}

    def run(self, steps: Iterable[tuple[str, str]]) -> Stage:
        """Returns the last stage. Raises CalledProcessError if a step fails."""
        for word, rest in steps:
            _DO[word](self, rest)
        return self._now

    @property
    def _now(self) -> Stage:
        return list(self._stages.values())[-1]

    def do_from(self, rest: str) -> None:
        _, name = re.fullmatch(r"(\S+)(?: AS (\S+))?", rest).groups()  # type: ignore[union-attr]
        root = self._folder / (name or "last")
        subprocess.run(["cp", "--archive", "--reflink=auto", self._base, root], check=True)
        self._stages[name or "last"] = Stage(root)

    def do_run(self, rest: str) -> None:
        command = self._now.nspawn(*self._options, environment=self._environment)
        subprocess.run(
            [*command, "/bin/sh", "-c", rest], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300
        )

    def do_copy(self, rest: str) -> None:
        *sources, target = rest.split()
        origin = self._sources
        if sources[0].startswith("--from="):
            origin = self._stages[sources.pop(0).removeprefix("--from=")].root
        into = self._now.root / self._now.folder.lstrip("/") / target.removeprefix("./").lstrip("/")
        (into if target.endswith("/") else into.parent).mkdir(parents=True, exist_ok=True)
        for source in sources:
            path = origin / source.lstrip("/")
            what = f"{path}/." if path.is_dir() else str(path)
            subprocess.run(["cp", "--recursive", "--preserve=mode,timestamps,links", what, into], check=True)

    def do_env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self._now.environment[name] = string.Template(value).substitute(self._now.environment)

    def do_user(self, rest: str) -> None:
        self._now.user = rest

    def do_workdir(self, rest: str) -> None:
        self._now.folder = rest
        (self._now.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def do_volume(self, rest: str) -> None:
        self._now.volumes += json.loads(rest)

    def do_entrypoint(self, rest: str) -> None:
        self._now.entrypoint = json.loads(rest)

    def do_cmd(self, rest: str) -> None:
        self._now.command = json.loads(rest)

    def do_healthcheck(self, rest: str) -> None:
        self._now.health = json.loads(rest.partition("CMD ")[2])

    def do_expose(self, rest: str) -> None:
        """Has no effect: documentation only."""


_DO = {
    "FROM": Build.do_from,
    "RUN": Build.do_run,
    "COPY": Build.do_copy,
    "ENV": Build.do_env,
    "USER": Build.do_user,
    "WORKDIR": Build.do_workdir,
    "VOLUME": Build.do_volume,
    "ENTRYPOINT": Build.do_entrypoint,
    "CMD": Build.do_cmd,
    "HEALTHCHECK": Build.do_healthcheck,
    "EXPOSE": Build.do_expose,
}
