"""The process of a trial: reads its order from standard input, answers with one line of JSON, and may die."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_WARM_UPS = 5
_SAMPLES = 20
_SAMPLING_S = 0.5
_MAX_REASON = 1000  # characters: it may quote what the file holds
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def main(try_out: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # what a runtime prints goes where the answer does not
        order = json.loads(sys.stdin.buffer.read())
        _bound(memory_bytes=order["memory_bytes"], cpu_s=order["cpu_s"])
        if os.getppid() != order["parent"]:
            return  # it died before this process was bound to it
        answer.write(json.dumps(_outcome(try_out, order)))
    sys.stderr.flush()
    os._exit(0)  # a runtime that is at odds with the model may crash in its destructors


def _bound(*, memory_bytes: int, cpu_s: int) -> None:
    """Before any byte of the candidate is read. RLIMIT_DATA counts what is written to; address space costs nothing."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # cameras go first
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # and the kernel takes this one first
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _outcome(try_out: Callable[[dict[str, Any]], dict[str, Any]], order: dict[str, Any]) -> dict[str, Any]:
    from agent.errors import IncompleteModelError, ModelError  # noqa: PLC0415  (nothing heavy before the bounds)

    try:
        return try_out(order)
    except ModelError as error:
        return {"refused": str(error)[:_MAX_REASON], "incomplete": isinstance(error, IncompleteModelError)}
    except MemoryError:
        return {
            "refused": "The model needs more memory than it may have on this device. Drop a smaller model.",
            "incomplete": False,
        }


def try_out(order: dict[str, Any]) -> dict[str, Any]:
    """Loads and runs the model; returns the fields of a TrialReport. Raises ModelError."""
    import numpy as np  # noqa: PLC0415

    from agent.image import Image  # noqa: PLC0415
    from agent.model_file.golden import read_golden  # noqa: PLC0415
    from agent.model_file.metadata import read_model_file  # noqa: PLC0415
    from agent.model_file.settings import check_settings  # noqa: PLC0415
    from agent.runtimes.golden import check_golden  # noqa: PLC0415
    from agent.runtimes.interpreter import import_runtime  # noqa: PLC0415
    from agent.runtimes.runtime import open_classifiers  # noqa: PLC0415

    content = Path(order["path"]).read_bytes()
    file = read_model_file(content)
    settings = file.settings.overridden_by(check_settings(order["overrides"], where="the trial's order"))
    import_runtime()  # which every interpreter of a process shares: not the candidate's memory, nor its time
    before, started = _peak_bytes(), time.perf_counter()
    (classifier,) = open_classifiers(file, settings, workers=1, threads=order["threads"])
    load_ms = (time.perf_counter() - started) * 1e3
    classifier.warm_up(_WARM_UPS)
    _, height, width, _ = classifier.input.shape
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    images = [Image(pixels) for pixels in (np.zeros_like(noise), np.full_like(noise, 255), noise)]
    took = _timed(classifier, images)
    golden = read_golden(content)
    if golden is not None:
        check_golden(golden, classifier)
    return {
        "load_ms": round(load_ms, 3),
        "invoke_ms": round(statistics.median(spent.invoke for spent in took), 3),
        "cpu_ms": round(sorted(spent.cpu for spent in took)[-1 - len(took) // 20], 3),
        "bytes_each": _peak_bytes() - before,
        "golden": len(golden.samples) if golden else 0,
    }


def _timed(classifier: Any, images: list[Any]) -> list[Any]:
    """What each call spent; every image at least once, then on for half a second at most."""
    took: list[Any] = []
    until = time.perf_counter() + _SAMPLING_S
    while len(took) < len(images) or (len(took) < _SAMPLES and time.perf_counter() < until):
        took.append(classifier.scores(images[len(took) % len(images)])[1])
    return took


def _peak_bytes() -> int:
    """Resident memory at the most so far. Not getrusage(2), which counts the peak of the parent before exec() too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    main(try_out)
