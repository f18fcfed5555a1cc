"""The process of a trial: reads a request from standard input and answers with one line of JSON; it may crash."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.host.process import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model_file.golden import GoldenSamples
    from agent.model_file.model import Model
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.tensorflow import TensorFlowOptions

_WARM_UPS = 5
_IMAGES = 3  # black, white and noise
_SAMPLES = 20
_SAMPLING_S = 0.5
_MAX_REASON = 1000  # characters: it may quote what the file holds


def main(try_out: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # keeps what a runtime prints out of the answer
        request = json.loads(sys.stdin.buffer.read())
        _bound(memory_bytes=request["memory_bytes"], cpu_s=request["cpu_s"])
        if not die_with_parent(request["parent"]):
            return
        answer.write(json.dumps(_outcome(try_out, request)))
    sys.stderr.flush()
    os._exit(0)  # after a bad model, a runtime may crash in its destructors


def _bound(*, memory_bytes: int | None, cpu_s: int) -> None:
    """Called before any byte of the candidate is read. RLIMIT_DATA counts writable memory, not all address space."""
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # cameras have priority
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # the kernel kills this process first


def _outcome(try_out: Callable[[dict[str, Any]], dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
    from agent.errors import BusyError, ModelError  # noqa: PLC0415  (nothing heavy before the limits are set)

    try:
        return try_out(request)
    except ModelError as error:
        words = str(error).replace(str(request.get("path")), "The SavedModel")  # not the agent's own copy
        return {"refused": words[:_MAX_REASON], "error": type(error).__name__}
    except BusyError as error:  # of the memory of TensorFlow's device
        return {"refused": str(error), "error": "NoRoomError"}
    except MemoryError:
        return {
            "refused": "The model needs more memory than it may use on this device. Drop a smaller model.",
            "error": "ModelError",
        }


def try_out(request: dict[str, Any]) -> dict[str, Any]:
    """Loads and runs the model; returns the fields of a TrialReport. Raises ModelError."""
    from agent.model_file.settings import check_settings  # noqa: PLC0415
    from agent.runtimes.golden import check_golden  # noqa: PLC0415
    from agent.runtimes.preprocessing import without_effect  # noqa: PLC0415
    from agent.runtimes.probe import probe_images  # noqa: PLC0415
    from agent.runtimes.runtime import open_classifiers  # noqa: PLC0415
    from agent.runtimes.tensorflow import TensorFlowOptions  # noqa: PLC0415

    model, golden = _read(Path(request["path"]))
    overrides = check_settings(request["overrides"], where="the trial's request")
    settings = model.settings.overridden_by(overrides)
    options = TensorFlowOptions(**request["tensorflow"])
    is_shared = _start_runtime(model, options)
    before, started = _peak_bytes(), time.perf_counter()
    (classifier,) = open_classifiers(
        model,
        settings,
        workers=1,
        threads=request["threads"],
        accelerator=request.get("accelerator", "cpu"),
        tensorflow=options,
    )
    load_ms = (time.perf_counter() - started) * 1e3
    classifier.warm_up(_WARM_UPS if classifier.seen is None else 1)  # a probe has warmed it up
    took = _timed(
        classifier, list(itertools.islice(probe_images(classifier.layout.height, classifier.layout.width), _IMAGES))
    )
    if golden is not None:
        check_golden(golden, classifier)
    return {
        "load_ms": round(load_ms, 3),
        "invoke_ms": round(statistics.median(spent.invoke for spent in took), 3),
        "cpu_ms": round(sorted(spent.cpu for spent in took)[-1 - len(took) // 20], 3),
        "bytes_each": _peak_bytes() - before,
        "scores": dataclasses.asdict(classifier.seen) if classifier.seen else None,
        "notes": _notes(without_effect(classifier.input, settings), overrides),
        "golden": len(golden.samples) if golden else 0,
        "is_shared": is_shared,
    }


def _read(path: Path) -> tuple[Model, GoldenSamples | None]:
    from agent.model_file.golden import read_golden, read_golden_folder  # noqa: PLC0415
    from agent.model_file.model import read_model  # noqa: PLC0415

    if path.is_dir():
        return read_model(path), read_golden_folder(path)
    content = path.read_bytes()
    return read_model(content), read_golden(content)


def _start_runtime(model: Model, options: TensorFlowOptions) -> bool:
    """Shared by all classifiers, so its memory and time do not count for the candidate.

    Returns whether the classifiers of the model share its function too.
    """
    from agent.model_file.saved_model import SavedModelFolder  # noqa: PLC0415

    if isinstance(model, SavedModelFolder):
        from agent.runtimes.tensorflow import import_tensorflow, use_options  # noqa: PLC0415

        tf = import_tensorflow()
        use_options(options)  # before its device is open
        (tf.zeros(1) + 1).numpy()  # makes its threads and opens its device
        return True
    from agent.runtimes.interpreter import import_runtime  # noqa: PLC0415

    import_runtime()
    return False


def _notes(unused: dict[str, str], overrides: ModelSettings) -> list[str]:
    """Only about explicit settings: a file's own metadata may contain what its input does not need."""
    return list(dict.fromkeys(why for name, why in unused.items() if getattr(overrides, name) is not None))


def _timed(classifier: Any, images: list[Any]) -> list[Any]:
    """What each call spent: every image at least once, then more calls for at most half a second."""
    took: list[Any] = []
    until = time.perf_counter() + _SAMPLING_S
    while len(took) < len(images) or (len(took) < _SAMPLES and time.perf_counter() < until):
        took.append(classifier.scores(images[len(took) % len(images)])[1])
    return took


def _peak_bytes() -> int:
    """Peak resident memory so far. Not getrusage(2), which also counts the peak of the parent before exec()."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    main(try_out)
