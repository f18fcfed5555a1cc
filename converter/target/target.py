"""Target: checks that the runtime on the device can load a converted model, before it gets there."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from agent.errors import ModelError
from agent.model_file.metadata import read_model_file
from agent.runtimes.interpreter import (
    complaints_translated,
    open_interpreter,
    operator_name,
    runtime,
    unknown_operator,
)
from agent.text import shortened
from converter.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.metadata import Operator

Target = Literal["litert", "tflite-runtime"]

_TARGETS: dict[str, Target] = {
    "litert": "litert",
    "tflite-runtime": "tflite-runtime",
    "tflite-runtime==2.14": "tflite-runtime",
    "tflite-runtime==2.14.0": "tflite-runtime",
}
_FULLY_CONNECTED = 9

# For a Python that has tflite-runtime and NumPy 1; this project need not be installed there.
_LOAD_IN_TFLITE_RUNTIME = """
import json, sys
verdict = {"runtime": None, "complaint": None}
try:
    import numpy, tflite_runtime
    from tflite_runtime.interpreter import Interpreter
    verdict["runtime"] = "tflite-runtime " + tflite_runtime.__version__
    interpreter = Interpreter(model_content=sys.stdin.buffer.read(), num_threads=1)
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], numpy.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()
except Exception as error:
    verdict["complaint"] = str(error) or type(error).__name__
print(json.dumps(verdict))
"""
_LOAD_IN_LITERT = """
import sys
sys.path[:] = {path!r}
from converter.target.target import load_from_stdin
load_from_stdin()
"""


def parse_target(text: str) -> Target:
    """The target named by --target. Raises UsageError with the supported ones."""
    if text not in _TARGETS:
        raise UsageError(
            f"--target {text} is not supported. Use litert or tflite-runtime (or tflite-runtime==2.14, its last "
            "release and the only one that the agent supports)."
        )
    return _TARGETS[text]


def check_target(model: bytes, target: Target, *, python: Path | None = None, limit_s: float = 60) -> str:
    """Returns a sentence that says what was checked.

    A child process loads the model and runs it once on zeros, since a faulty model can crash a runtime.
    tflite-runtime cannot be in one environment with TensorFlow, so its child process is `python`. Without `python`,
    and unless this Python has tflite-runtime, only the operators are compared with those of tflite-runtime.
    Raises ConversionError with every unsupported operator and the remedy, UsageError if `python` does not work.
    """
    operators = read_model_file(model).operators
    _refuse_custom(operators)
    if target == "litert":
        return _load_in_litert(model, limit_s)
    _refuse_too_new(operators)
    return _load_in_tflite_runtime(model, python, limit_s)


def load_from_stdin() -> None:
    """Runs in the child process for LiteRT; prints the verdict to standard output."""
    complaint = None
    try:
        interpreter = open_interpreter(sys.stdin.buffer.read(), threads=1)
        with complaints_translated():
            for details in interpreter.get_input_details():
                interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
            interpreter.invoke()
    except ModelError as error:
        complaint = str(error)
    sys.stdout.write(json.dumps({"runtime": runtime(), "complaint": complaint}))


def _refuse_custom(operators: Sequence[Operator]) -> None:
    custom = [operator.custom for operator in operators if operator.custom]
    flex = [name for name in custom if name.startswith("Flex")]
    reasons = [unknown_operator(", ".join(flex))] if flex else []
    reasons += [unknown_operator(name) for name in custom if name not in flex]
    if reasons:
        raise ConversionError(" ".join(reasons))


def _refuse_too_new(operators: Sequence[Operator]) -> None:
    at_fault = [operator for operator in operators if not _is_in_table(operator)]
    if at_fault:
        reasons = "; it ".join(map(_why_refused, at_fault))
        raise ConversionError(f"{_table()['runtime']} {reasons}. {_remedy(at_fault)}")


def _is_in_table(operator: Operator) -> bool:
    first, last = _table()["versions"].get(str(operator.code), (1, 0))
    return bool(first <= operator.version <= last)


def _why_refused(operator: Operator) -> str:
    name, ends = operator_name(operator), _table()["versions"].get(str(operator.code))
    if ends is None:
        return f"does not support {name}, which the model needs in version {operator.version}"
    first, last = ends
    since = f"from version {first} " if operator.version < first else ""
    return f"supports {name} {since}up to version {last}, but the model needs version {operator.version}"


def _remedy(at_fault: Sequence[Operator]) -> str:
    # For --quantize dynamic, and only then, TensorFlow 2.21 writes version 12, which has a scale for each output.
    if all(operator.code == _FULLY_CONNECTED for operator in at_fault):
        return "Use --quantize int8 or float16 instead of dynamic, or use --target litert."
    return "Replace the layers that need it, or use --target litert."


@functools.cache
def _table() -> dict[str, Any]:
    """The output of `make operator-table`: `runtime`, and the first and last of `versions` by operator number."""
    table: dict[str, Any] = json.loads(Path(__file__).with_name("tflite_runtime_2_14.json").read_bytes())
    return table


def _load_in_litert(model: bytes, limit_s: float) -> str:
    program = _LOAD_IN_LITERT.format(path=sys.path)
    verdict = _load_in_child(Path(sys.executable), program, model, name=runtime(), limit_s=limit_s)
    if verdict.complaint is not None:
        raise ConversionError(verdict.complaint)
    return f"The file loads in {verdict.runtime}."


def _load_in_tflite_runtime(model: bytes, python: Path | None, limit_s: float) -> str:
    other, program = python or Path(sys.executable), _LOAD_IN_TFLITE_RUNTIME
    verdict = _load_in_child(other, program, model, name="tflite-runtime", limit_s=limit_s)
    complaint = shortened(verdict.complaint or "")
    if verdict.runtime is None and python is not None:
        raise UsageError(
            f"{python} cannot import tflite-runtime ({complaint}). Install it there: "
            "python3.11 -m pip install tflite-runtime==2.14.0 'numpy<2'."
        )
    if verdict.runtime is None:
        return f"{_table()['runtime']} supports every operator. It is not installed here, so it did not load the file."
    if complaint:
        raise ConversionError(
            f"{verdict.runtime} refuses the model: {complaint}. Use another --quantize, or use --target litert."
        )
    return f"The file loads in {verdict.runtime}."


@dataclass(frozen=True, slots=True)
class _Verdict:
    """`runtime` is None if it cannot be imported; `complaint` is the reason then."""

    runtime: str | None
    complaint: str | None


def _load_in_child(python: Path, program: str, model: bytes, *, name: str, limit_s: float) -> _Verdict:
    # -I: neither the current folder nor PYTHONPATH may change what is imported.
    command = [str(python), "-I", "-c", program]
    try:
        child = subprocess.run(command, input=model, capture_output=True, timeout=limit_s, check=False)  # noqa: S603
    except OSError as error:
        raise UsageError(f"{python} cannot be started: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise ConversionError(
            f"The model hangs in {name}: it was not loaded and run within {limit_s:.0f} s. "
            "Use another --quantize or another --target."
        ) from None
    if child.returncode < 0:
        raise ConversionError(
            f"The model crashes {name} ({signal.strsignal(-child.returncode)}). "
            "Use another --quantize or another --target."
        )
    return _verdict(child, python)


def _verdict(child: subprocess.CompletedProcess[bytes], python: Path) -> _Verdict:
    try:
        return _Verdict(**json.loads(child.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        output = (child.stderr or child.stdout).decode(errors="replace").strip().rpartition("\n")[2]
        raise ConversionError(
            f"{python} failed to load the model and exited with code {child.returncode} without a result: "
            f"{shortened(output) or 'no output'}. Check that this Python works."
        ) from None
