"""Trial: a child process loads and runs a candidate, so that what it does to a process, it does to that one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import IncompleteModelError, ModelError
from agent.host.memory import free_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.model_file.settings import ModelSettings

_PROCESS = ("-m", "agent.models.trial_process")
_RUNTIME_BYTES = 512 << 20  # Python, OpenCV and a runtime, with room for the activations of a large model
_BYTES_PER_FILE_BYTE = 16  # int8 weights, unpacked to float and packed again for the kernels


@dataclass(frozen=True, slots=True)
class TrialReport:
    """`bytes_each` is what one interpreter took at its peak, `invoke_ms` the median.

    `cpu_ms` is the 95th percentile of the CPU time that the invoking thread used for one call.
    `golden` counts the golden samples, each of which was answered as the file says or within its tolerance.
    """

    load_ms: float
    invoke_ms: float
    cpu_ms: float
    bytes_each: int
    golden: int = 0


class Trial:
    """Starts a Python afresh for each candidate, with bounds on memory, CPU and wall time. Blocks; any thread."""

    def __init__(self, *, threads: int, timeout_s: float = 60.0, process: Sequence[str] = _PROCESS) -> None:
        """`threads` as the interpreters of the service have; `process` are the arguments of its Python."""
        self._threads = threads
        self._timeout_s = timeout_s
        self._process = process

    def run(self, path: Path, overrides: ModelSettings) -> TrialReport:
        """Raises ModelError with the cause and the remedy, IncompleteModelError where the file is cut off.

        `overrides` beat what the file says: its sidecars and the configuration.
        """
        order = {
            "path": str(path.absolute()),
            "parent": os.getpid(),
            "overrides": overrides.to_json(),
            "threads": self._threads,
            "cpu_s": max(1, round(self._timeout_s * max(2, self._threads))),
            "memory_bytes": memory_bound(path.stat().st_size, free_bytes()),
        }
        try:
            done = subprocess.run(  # noqa: S603  (our own module)
                [sys.executable, *self._process],
                input=json.dumps(order).encode(),
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
                start_new_session=True,
                cwd="/",  # Python imports from where it is started, and that may be where models are dropped
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"The model was not through its trial after {self._timeout_s:.0f} s: it hangs, or is too slow for this "
                "device. Drop a smaller model."
            ) from None
        return _report(done)


def memory_bound(file_bytes: int, free_bytes: int) -> int:
    """What such a file can honestly need, at most three quarters of what is free, but never too little to start."""
    honest = _RUNTIME_BYTES + _BYTES_PER_FILE_BYTE * file_bytes
    return max(192 << 20, min(honest, free_bytes * 3 // 4))


def _report(done: subprocess.CompletedProcess[bytes]) -> TrialReport:
    answer = _answer(done.stdout)
    if "refused" in answer:
        raise (IncompleteModelError if answer["incomplete"] else ModelError)(answer["refused"])
    if done.returncode == 0 and answer:
        return TrialReport(**answer)
    raise ModelError(_how_it_died(done))


def _answer(output: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:  # it died before, or in the middle of it
        return {}
    return answer


def _how_it_died(done: subprocess.CompletedProcess[bytes]) -> str:
    words = done.stderr.decode(errors="replace")
    if "bad_alloc" in words or "MemoryError" in words or -done.returncode == signal.SIGKILL:
        return "The model needs more memory than it may have on this device. Drop a smaller model."
    if -done.returncode == signal.SIGXCPU:
        return "The model computes without end, or is too slow for this device. Drop a smaller model."
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "").strip()[:300]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"The runtime crashes on the model ({name}): the file is damaged. Copy it again, or convert it again."
    return f"The model's trial failed ({last or f'exit code {done.returncode}'}). Drop another one, and report this."
