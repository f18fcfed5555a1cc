"""Conversion: converts one version in a child process, so that a crash of TensorFlow harms nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from converter.watching.child import run_child

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.watching.versions import Version


@dataclass(frozen=True, slots=True)
class Outcome:
    """`refused`: the same input would be refused again. `failed`: the disk or the machine is the cause.

    `crashed`: the process ended without an answer, or took too long. `notes` are sentences for the user.
    """

    kind: Literal["done", "refused", "failed", "crashed"]
    reason: str = ""
    notes: tuple[str, ...] = ()


class Conversion:
    """One version with its options, in the folder `work`, which belongs to it."""

    def __init__(self, version: Version, words: Sequence[str], work: Path) -> None:
        self._work = work
        self._name = version.name
        report = ["--report=report.html"] if any(word.startswith("--evaluate=") for word in words) else []
        own = [f"--name={version.name}", f"--version={version.number}", *report]
        self.words = [str(version.model), f"{version.name}.tflite", *own, *words]

    @property
    def finished(self) -> Path:
        return self._work / f"{self._name}.tflite"

    async def run(self, program: Sequence[str], *, limit_s: float) -> Outcome:
        """`program` takes the words and answers with JSON: {}, {"refused": reason} or {"failed": reason}."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        ended = await run_child([*program, *self.words], folder=self._work, limit_s=limit_s)
        try:
            answer = json.loads(ended.out)
        except ValueError:
            return Outcome("crashed", f"The conversion failed: {ended.cause}.")
        notes = tuple(line for line in ended.err.decode(errors="replace").splitlines() if line.startswith("edge-con"))
        for kind in ("refused", "failed"):
            if kind in answer:
                return Outcome(kind, str(answer[kind]), notes)
        return Outcome("done", notes=notes)

    def keep_report(self, page: Path) -> None:
        """Moves the report to `page` and its figures next to it, if the conversion wrote one. Raises OSError."""
        page.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".html", ".json"):
            written = self._work / f"report{suffix}"
            if written.exists():
                written.replace(page.with_suffix(suffix))
