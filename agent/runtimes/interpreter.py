"""Interpreter: the only place that chooses a TFLite runtime and translates its errors."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from agent.errors import ModelError
from agent.text import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.model_file.metadata import Operator

# The first one installed is used. Each is a module and the distribution that provides it.
_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow.lite.python.interpreter", "tensorflow"),
)


class Interpreter(Protocol):
    """What the three runtimes have in common. One thread at a time may use an instance."""

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None: ...
    def allocate_tensors(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, tensor_index: int, value: Any) -> None: ...
    def get_tensor(self, tensor_index: int) -> Any: ...
    def invoke(self) -> None: ...


def runtime() -> str:
    """The runtime in use and its version, such as `ai-edge-litert 2.3.0`; ModelError if there is none."""
    _, distribution = find_runtime()
    return f"{distribution} {importlib.metadata.version(distribution)}"


def open_interpreter(content: bytes, *, threads: int, input_shape: Sequence[int] | None = None) -> Interpreter:
    """An interpreter for a model in memory, with its tensors allocated; `input_shape` replaces that of the model.

    Never for a path: the runtimes map the file into memory, and overwriting it then kills the process with SIGBUS.
    Raises ModelError with the remedy if the runtime refuses the model.
    """
    make = import_runtime().Interpreter
    with complaints_translated():
        interpreter: Interpreter = make(model_content=content, num_threads=threads)
        if input_shape is not None:
            interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], list(input_shape))
        interpreter.allocate_tensors()
    return interpreter


def import_runtime() -> Any:
    """The module of the runtime in use; ModelError if there is none."""
    module, _ = find_runtime()
    return importlib.import_module(module)


@contextmanager
def complaints_translated() -> Iterator[None]:
    """Turns an interpreter's errors into ModelError with the remedy; some errors appear only in invoke()."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ModelError(_translated(str(error))) from error
    except MemoryError as error:
        raise ModelError("The model needs more memory than is free on this device. Drop a smaller model.") from error


def find_runtime(find_spec: Callable[[str], object | None] = importlib.util.find_spec) -> tuple[str, str]:
    """The module and the distribution of the first runtime installed. Raises ModelError if there is none."""
    for module, distribution in _RUNTIMES:
        if find_spec(module.partition(".")[0]) is not None:
            return module, distribution
    raise ModelError("No TFLite runtime is installed. Install one: pip install ai-edge-litert.")


def _translated(message: str) -> str:
    message = " ".join(message.split())
    if too_new := re.search(r"opcode '?(\w+)'? version '?(\d+)'?", message):
        return (
            f"The operator {too_new[1]} version {too_new[2]} is newer than this runtime ({runtime()}). "
            "Update the runtime, or convert the model for this one: edge-convert convert --target."
        )
    if custom := re.search(r"unresolved custom op: (\S+)", message):
        return unknown_operator(custom[1].rstrip("."))
    if "Select TensorFlow op" in message:
        return unknown_operator("Flex")
    return f"The runtime ({runtime()}) refuses the model: {shortened(message)}. Convert it again from its SavedModel."


def unknown_operator(name: str) -> str:
    """Why a model with the custom operator `name` cannot run here, and what to do."""
    if name == "edgetpu-custom-op":
        return (
            "The model is compiled for the Coral Edge TPU and runs on no other hardware. "
            "Drop the .tflite file it was compiled from (the one without _edgetpu in its name)."
        )
    if name.startswith("Flex"):
        return (
            f"The model needs TensorFlow's own operators ({name}), which no TFLite runtime supports. "
            "Convert it again with TensorFlow Lite's built-in operators only."
        )
    return (
        f"The model uses the custom operator {name}, which this runtime does not support. Convert the model without it."
    )


def operator_name(operator: Operator) -> str:
    """Its name in TensorFlow's schema, or its number if the installed runtime has no list of names."""
    if operator.custom:
        return operator.custom
    number = f"builtin {operator.code}"
    try:
        from ai_edge_litert.schema_py_generated import BuiltinOperator  # noqa: PLC0415  (a long module)
    except ImportError:  # tflite-runtime has no list of names
        return number
    return next((name for name, code in vars(BuiltinOperator).items() if code == operator.code), number)
