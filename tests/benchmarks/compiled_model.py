"""Compares LiteRT's Interpreter with its CompiledModel on the CPU: the decision in docs/performance.md rests on it.

`PYTHONPATH=.:tests .venv/bin/python -m benchmarks.compiled_model [figures|mutants] MODEL.tflite...` prints one JSON
object per model. Every measurement is interleaved in one process, or runs in a process that is forked for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import statistics
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from faults.mutants import byte_mutants
from faults.structural_mutants import structural_mutants

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from faults.mutants import Mutant

    Array = npt.NDArray[np.generic]

_ROUNDS, _OPENINGS, _INSTANCES = 100, 9, 4
_STALLS = 20
_BYTE_MUTANTS, _STRUCTURAL_MUTANTS = 1000, 300  # over all models
_MUTANT_S, _MUTANT_BYTES = 20, 1 << 30


class Runtime(Protocol):
    def run(self, tensor: Array) -> Array: ...


class WithInterpreter:
    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  (only in the process that measures it)

        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()[0]
        self._input, self.shape, self.dtype = details["index"], tuple(details["shape"]), details["dtype"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self, tensor: Array) -> Array:
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output))


class WithCompiledModel:
    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.compiled_model import (  # noqa: PLC0415  (only in the process that measures it)
            CompiledModel,
            CpuOptions,
            HardwareAccelerator,
            Options,
        )

        options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))
        self._model = CompiledModel.from_buffer(content, options=options)
        key = next(iter(self._model.get_signature_list()))
        (details,) = self._model.get_input_tensor_details(key).values()
        self.shape, self.dtype = tuple(details["shape"]), np.dtype(details["dtype"])
        output = next(iter(self._model.get_output_tensor_details(key).values()))
        self._taken = (int(np.prod(output["shape"])), np.dtype(output["dtype"]))
        self._inputs, self._outputs = self._model.create_input_buffers(0), self._model.create_output_buffers(0)

    def run(self, tensor: Array) -> Array:
        self._inputs[0].write(tensor)
        self._model.run_by_index(0, self._inputs, self._outputs)
        return np.asarray(self._outputs[0].read(*self._taken))


RUNTIMES: dict[str, Callable[[bytes], Any]] = {"interpreter": WithInterpreter, "compiled_model": WithCompiledModel}


def figures(content: bytes) -> dict[str, Any]:
    """Medians in ms. `others_wait_ms` is how long another Python thread stands still meanwhile."""
    opening: dict[str, list[float]] = {name: [] for name in RUNTIMES}
    calls: dict[str, list[float]] = {name: [] for name in RUNTIMES}
    for _ in range(_OPENINGS):
        for name, make in RUNTIMES.items():
            opening[name].append(_took_ms(lambda make=make: make(content)))  # type: ignore[misc]  # mypy infers no default
    opened = {name: make(content) for name, make in RUNTIMES.items()}
    tensor = np.zeros(opened["interpreter"].shape, opened["interpreter"].dtype)
    for _ in range(_ROUNDS):
        for name, runtime in opened.items():
            calls[name].append(_took_ms(lambda runtime=runtime: runtime.run(tensor)))  # type: ignore[misc]  # likewise
    return {
        name: {
            "open_ms": round(statistics.median(opening[name]), 2),
            "call_ms": round(statistics.median(calls[name]), 3),
            "others_wait_ms": round(_stall_ms(lambda runtime=runtime: runtime.run(tensor)), 3),  # type: ignore[misc]  # likewise
        }
        for name, runtime in opened.items()
    }


def _took_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def _stall_ms(call: Callable[[], object]) -> float:
    """The median of the longest pause of another thread during each call."""
    longest: list[float] = []
    done = threading.Event()

    def tick() -> None:
        before = time.perf_counter()
        while not done.is_set():
            time.sleep(0.0001)
            now = time.perf_counter()
            longest[-1] = max(longest[-1], now - before)
            before = now

    longest.append(0.0)
    thread = threading.Thread(target=tick)
    thread.start()
    for _ in range(_STALLS):
        longest.append(0.0)
        call()
        time.sleep(0.002)
    done.set()
    thread.join()
    return statistics.median(longest[1:]) * 1e3


def memory(make: Callable[[bytes], Any], content: bytes) -> dict[str, Any]:
    """MB that the runtime with one instance adds to a process with NumPy, and that each further instance adds."""
    before = _resident_mb()
    kept = [make(content)]
    tensor = np.zeros(kept[0].shape, kept[0].dtype)
    kept[0].run(tensor)
    first = _resident_mb()
    for _ in range(_INSTANCES - 1):
        kept.append(make(content))
        kept[-1].run(tensor)
    return {
        "first_instance_mb": round(first - before, 1),
        "next_instance_mb": round((_resident_mb() - first) / (_INSTANCES - 1), 1),
    }


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _in_child(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """In a new process: this one never imports a runtime, whose memory all forked processes would share."""
    answer: dict[str, Any] = json.loads(_forked(measure)[1] or "{}")
    return answer


def mutants(content: bytes, models: int) -> dict[str, Any]:
    """The outcomes of each runtime: refused by an exception, right, another answer, crashed, hung."""
    random = Random(22)
    made: list[Mutant] = [*islice(byte_mutants(content, random), _BYTE_MUTANTS // models)]
    altered: list[Mutant] = [*islice(structural_mutants(content, random), _STRUCTURAL_MUTANTS // models)]
    return {
        name: {"byte": _outcomes(make, content, made), "structural": _outcomes(make, content, altered)}
        for name, make in RUNTIMES.items()
    }


def _outcomes(make: Callable[[bytes], Any], content: bytes, made: list[Mutant]) -> dict[str, int]:
    counts: dict[str, int] = {}
    expected = _forked(lambda: _answer(make, content))[1]
    for mutant in made:
        ended, answer = _forked(lambda mutant=mutant: _answer(make, mutant.content))  # type: ignore[misc]  # likewise
        outcome = ended if ended != "answered" else "right" if answer == expected else "another answer"
        counts[outcome] = counts.get(outcome, 0) + 1
    return dict(sorted(counts.items()))


def _answer(make: Callable[[bytes], Any], content: bytes) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_DATA, (_MUTANT_BYTES, _MUTANT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_MUTANT_S, _MUTANT_S))
    runtime = make(content)
    pixels = np.random.default_rng(0).integers(0, 127, runtime.shape)
    return {"raw": runtime.run(pixels.astype(runtime.dtype)).reshape(-1).astype(float).round(3).tolist()}


def _forked(measure: Callable[[], dict[str, Any]]) -> tuple[str, str]:
    """How the child ended, and its answer: `answered`, `refused` by an exception, `crashed` or `hung`."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _measure_and_leave(measure, writer)
    os.close(writer)
    text = b""
    until = time.monotonic() + 2 * _MUTANT_S
    while select.select([reader], [], [], max(0, until - time.monotonic()))[0] and (piece := os.read(reader, 1 << 16)):
        text += piece
    os.close(reader)
    if time.monotonic() >= until:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return ("hung" if os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU) else "crashed"), ""
    return ("answered" if os.WEXITSTATUS(status) == 0 else "refused"), text.decode()


def _measure_and_leave(measure: Callable[[], dict[str, Any]], writer: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # CompiledModel writes 20 lines for each model
    code = 1
    with contextlib.suppress(Exception):
        os.write(writer, json.dumps(measure()).encode())
        code = 0
    os._exit(code)


def _measured(content: bytes) -> dict[str, Any]:
    timed = _in_child(lambda: figures(content))
    return {
        name: {**timed[name], **_in_child(lambda make=make: memory(make, content))}  # type: ignore[misc]  # mypy infers no default
        for name, make in RUNTIMES.items()
    }


def main(what: str, *paths: str) -> None:
    for path in paths:
        content = Path(path).read_bytes()
        found = _measured(content) if what == "figures" else mutants(content, len(paths))
        print(json.dumps({"model": Path(path).stem, "load": os.getloadavg()[0], **found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
