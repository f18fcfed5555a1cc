from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agents.models_on_disk import CONV_2D, DIGITS, with_operator_version

from agent.errors import ModelError
from agent.runtimes.interpreter import complaints_translated, find_runtime, open_interpreter, runtime, unknown_operator

if TYPE_CHECKING:
    from collections.abc import Callable


def only(*modules: str) -> Callable[[str], Any]:
    """A find_spec() for a machine on which only these modules are installed."""
    return lambda module: object() if module in modules else None


def test_runtime_returns_name_and_version() -> None:
    name, _, version = runtime().partition(" ")
    assert name in ("ai-edge-litert", "tflite-runtime", "tensorflow")
    assert version[0].isdigit()


def test_interpreter_runs_from_memory() -> None:
    opened = open_interpreter(DIGITS, threads=1)
    details = opened.get_input_details()[0]
    opened.set_tensor(details["index"], np.zeros(details["shape"], np.uint8))
    opened.invoke()
    assert opened.get_tensor(opened.get_output_details()[0]["index"]).shape == (1, 10)


def test_operator_of_a_newer_version_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        ModelError, match=r"The operator CONV_2D version 99 is newer than this runtime .*Update"
    ) as caught:
        open_interpreter(with_operator_version(CONV_2D, 99), threads=1)
    assert runtime() in str(caught.value)


def test_bytes_that_are_not_a_model_are_refused_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"refuses the model: .*Convert it again"):
        open_interpreter(b"\x08\0\0\0TFL3" + bytes(64), threads=1)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'.", "FULLY_CONNECTED version 12 is newer"),
        ("Didn't find op for builtin opcode CONV_2D version 9. An older", "CONV_2D version 9 is newer"),
        ("Encountered unresolved custom op: edgetpu-custom-op.\nSee instructions", "Coral Edge TPU"),
        ("Encountered unresolved custom op: MyOp.\nSee", "custom operator MyOp, which"),
        ("Select TensorFlow op(s), included in the given model, is(are) not supported", "TensorFlow's own operators"),
        ("mmap of size '0' requested", r"refuses the model: mmap of size '0' requested\. Convert"),
    ],
)
def test_errors_of_the_runtimes_are_translated(message: str, words: str) -> None:
    with pytest.raises(ModelError, match=words), complaints_translated():
        raise ValueError(message)


def test_every_unknown_operator_has_a_remedy() -> None:
    assert "_edgetpu" in unknown_operator("edgetpu-custom-op")
    assert "built-in operators only" in unknown_operator("FlexErf")
    assert "Convert the model without it" in unknown_operator("Mine")


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        (("ai_edge_litert", "tflite_runtime", "tensorflow"), "ai-edge-litert"),
        (("tflite_runtime", "tensorflow"), "tflite-runtime"),
        (("tensorflow",), "tensorflow"),
    ],
)
def test_first_installed_runtime_is_used(installed: tuple[str, ...], chosen: str) -> None:
    assert find_runtime(only(*installed))[1] == chosen


def test_missing_runtime_is_reported_with_the_command_to_install_one() -> None:
    with pytest.raises(ModelError, match="pip install ai-edge-litert"):
        find_runtime(only())
