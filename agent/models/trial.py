"""Trial: loads and runs a candidate in a child process, so that a crash harms only that process."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import IncompleteModelError, ModelError, NoLabelsError, NoRoomError
from agent.host.board import has_nvidia
from agent.host.digest import files_in
from agent.host.memory import free_bytes
from agent.runtimes.score_kind import SeenScores
from agent.runtimes.tensorflow import TensorFlowOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.model_file.settings import ModelSettings
    from agent.runtimes.selection import Wanted

_PROCESS = ("-m", "agent.models.trial_process")
_REFUSALS = {error.__name__: error for error in (IncompleteModelError, NoLabelsError, NoRoomError)}
_RUNTIME_BYTES = 512 << 20  # Python, OpenCV and a runtime, with room for the activations of a large model
_TENSORFLOW_BYTES = 2 << 30  # and with its own, which one thread per processor needs too
_BYTES_PER_PROCESSOR = 64 << 20
_SLOWER = 5  # TensorFlow's import takes seconds, and tracing a large graph a minute
_BYTES_PER_FILE_BYTE = 16  # int8 weights, unpacked to float and packed again for the kernels


@dataclass(frozen=True, slots=True)
class TrialReport:
    """`bytes_each` is the peak memory of one interpreter, or of what `is_shared` by all; `invoke_ms` is the median.

    `cpu_ms` is the 95th percentile of the CPU time that the invoking thread used for one call.
    `scores` is what was seen of them if nothing else says what they are; seeing them is a part of `load_ms`.
    `notes` has a sentence for each setting of the sidecars and the configuration that has no effect.
    `golden` is the number of golden samples, which have passed within their tolerance.
    """

    load_ms: float
    invoke_ms: float
    cpu_ms: float
    bytes_each: int
    scores: SeenScores | None = None
    notes: tuple[str, ...] = ()
    golden: int = 0
    is_shared: bool = False

    @classmethod
    def read(cls, answer: dict[str, Any]) -> TrialReport:
        """From the JSON that the trial's process answers."""
        scores = answer.get("scores")
        notes = tuple(answer.get("notes", ()))
        return cls(**{**answer, "scores": SeenScores(**scores) if scores else None, "notes": notes})


class Trial:
    """Starts a new Python for each candidate, with limits on memory, CPU time and wall time. Blocks; any thread."""

    def __init__(
        self,
        *,
        threads: int,
        accelerator: Wanted = "cpu",
        timeout_s: float = 60.0,
        process: Sequence[str] = _PROCESS,
        tensorflow: TensorFlowOptions = TensorFlowOptions(),  # noqa: B008  (frozen)
    ) -> None:
        """`threads` is the number per interpreter, as in the service; `process` has the arguments of its Python.

        `accelerator` matters only for a model that is compiled for an Edge TPU.
        """
        self._threads = threads
        self._accelerator = accelerator
        self._tensorflow = tensorflow
        self._timeout_s = timeout_s
        self._process = process

    def run(self, path: Path, overrides: ModelSettings) -> TrialReport:
        """Raises ModelError with the cause and the remedy, IncompleteModelError if the file is truncated.

        `path` leads to a .tflite file or to the folder of a SavedModel.
        `overrides` are the settings of the sidecars and the configuration, which override those in the file.
        """
        limits = self._limits_for_tensorflow(path) if path.is_dir() else self._limits(path)
        request = {
            "path": str(path.absolute()),
            "parent": os.getpid(),
            "overrides": overrides.to_json(),
            "threads": self._threads,
            "accelerator": self._accelerator,
            "tensorflow": dataclasses.asdict(self._tensorflow),
            "cpu_s": limits.cpu_s,
            "memory_bytes": limits.memory_bytes,
        }
        try:
            done = subprocess.run(  # noqa: S603  (our own module)
                [sys.executable, *self._process],
                input=json.dumps(request).encode(),
                capture_output=True,
                timeout=limits.timeout_s,
                check=False,
                start_new_session=True,
                cwd="/",  # Python imports from its working directory, which may be the drop folder
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"The trial did not finish within {limits.timeout_s:.0f} s: the model hangs, or is too slow for this "
                "device. Drop a smaller model."
            ) from None
        return _report(done)

    def _limits(self, path: Path) -> _Limits:
        cpu_s = max(1, round(self._timeout_s * max(2, self._threads)))
        return _Limits(self._timeout_s, cpu_s, memory_bound(path.stat().st_size, free_bytes()))

    def _limits_for_tensorflow(self, folder: Path) -> _Limits:
        """It computes with one thread per processor; for an NVIDIA device, CUDA reserves much that it never uses."""
        timeout_s, processors = self._timeout_s * _SLOWER, os.cpu_count() or 1
        size = sum((folder / name).stat().st_size for name in files_in(folder))
        runtime_bytes = _TENSORFLOW_BYTES + processors * _BYTES_PER_PROCESSOR
        return _Limits(
            timeout_s,
            max(1, round(timeout_s * max(2, processors))),
            None if has_nvidia() else memory_bound(size, free_bytes(), runtime_bytes=runtime_bytes),
        )


@dataclass(frozen=True, slots=True)
class _Limits:
    """Of wall time, CPU time and writable memory."""

    timeout_s: float
    cpu_s: int
    memory_bytes: int | None


def memory_bound(file_bytes: int, free_bytes: int, *, runtime_bytes: int = _RUNTIME_BYTES) -> int:
    """What a file of this size may need, at most three quarters of the free memory, but always enough to start."""
    needed = runtime_bytes + _BYTES_PER_FILE_BYTE * file_bytes
    return max(192 << 20, min(needed, free_bytes * 3 // 4))


def _report(done: subprocess.CompletedProcess[bytes]) -> TrialReport:
    answer = _answer(done.stdout)
    if "refused" in answer:
        raise _REFUSALS.get(answer["error"], ModelError)(answer["refused"])
    if done.returncode == 0 and answer:
        return TrialReport.read(answer)
    raise ModelError(_how_it_died(done))


def _answer(output: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:  # it died before or while it wrote the answer
        return {}
    return answer


def _how_it_died(done: subprocess.CompletedProcess[bytes]) -> str:
    words = done.stderr.decode(errors="replace")
    if "bad_alloc" in words or "MemoryError" in words or -done.returncode == signal.SIGKILL:
        return "The model needs more memory than it may use on this device. Drop a smaller model."
    if -done.returncode == signal.SIGXCPU:
        return "The model does not finish, or is too slow for this device. Drop a smaller model."
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "").strip()[:300]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"The runtime crashed on the model ({name}): the file is damaged. Copy it again, or convert it again."
    why = last or f"exit code {done.returncode}"
    return f"The model's trial failed ({why}). Drop another model, and report this error."
