"""Accelerator trial: compares a model on the GPU with the same model on the CPU, in a child process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from agent.errors import AcceleratorError
from agent.runtimes.selection import Comparison
from agent.text import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.score_kind import SeenScores

_PROCESS = ("-m", "agent.models.accelerator_trial_process")
_TIMEOUT_S = 120.0  # of which a driver may take a minute to compile the model


class AcceleratorTrial:
    """It starts only after the model has passed its trial on the CPU. Blocks; one thread at a time."""

    def __init__(self, *, threads: int, timeout_s: float = _TIMEOUT_S, process: Sequence[str] = _PROCESS) -> None:
        """`threads` is the number per interpreter, as in the service; `process` has the arguments of its Python."""
        self._threads = threads
        self._timeout_s = timeout_s
        self._process = process

    def run(self, model: ModelFile, settings: ModelSettings, seen: SeenScores | None) -> Comparison:
        """`settings` are the final ones. Raises AcceleratorError if the GPU cannot be used."""
        memory = os.memfd_create("model", os.MFD_CLOEXEC)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(model.content)
            return _comparison(self._run(memory, settings, seen))
        finally:
            os.close(memory)

    def _run(self, memory: int, settings: ModelSettings, seen: SeenScores | None) -> subprocess.CompletedProcess[bytes]:
        request = {
            "path": f"/proc/self/fd/{memory}",
            "parent": os.getpid(),
            "settings": settings.to_json(),
            "seen": dataclasses.asdict(seen) if seen else None,
            "threads": self._threads,
            "cpu_s": max(1, round(self._timeout_s * (os.cpu_count() or 1))),
            "memory_bytes": None,  # drivers reserve far more than they use
        }
        try:
            return subprocess.run(  # noqa: S603  (our own module)
                [sys.executable, *self._process],
                input=json.dumps(request).encode(),
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
                pass_fds=(memory,),
                start_new_session=True,
                cwd="/",  # Python imports from its working directory
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise AcceleratorError(f"its trial did not finish within {self._timeout_s:.0f} s") from None


def _comparison(done: subprocess.CompletedProcess[bytes]) -> Comparison:
    try:
        answer = json.loads(done.stdout)
    except ValueError:  # it died before or while it wrote the answer
        words = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        last = f" ({shortened(printable(words[-1]))})" if words else ""
        raise AcceleratorError(f"its trial ended with exit code {done.returncode}{last}") from None
    if "refused" in answer:
        raise AcceleratorError(answer["refused"])
    return Comparison(**answer)
