"""Target checks with published models, a model made by TensorFlow, and faulty runtimes."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents.models_on_disk import CONV_2D, DIGITS, with_input_shape, with_operator_version, with_tensor_type

from agent.model_file.metadata import Operator, read_model_file
from agent.runtimes.interpreter import operator_name
from converter.errors import ConversionError, UsageError
from converter.target.probe_runtime import stating_operator
from converter.target.target import Target, check_target, parse_target

OTHER_PYTHON = Path(__file__).parents[2] / ".venv-tflite-runtime" / "bin" / "python"
INT8 = "models/mlperf_vww_96_int8/vww_96_int8.tflite"
FULLY_CONNECTED, BROADCAST_TO, STABLEHLO_CASE = 9, 130, 209
FLOAT32 = 0

needs_litert = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="LiteRT is not installed")


@pytest.fixture
def other_python() -> Path:
    """A Python with tflite-runtime and without TensorFlow."""
    if not OTHER_PYTHON.exists():
        pytest.skip(".venv-tflite-runtime is missing; create it with make test-tflite-runtime")
    return OTHER_PYTHON


@pytest.fixture(scope="module")
def keras_model() -> Any:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [tf.keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(64), layers.Dense(10, "softmax")]
    )


def converted(keras_model: Any, **options: Any) -> bytes:
    """With 8-bit weights and float computation, unless `options` of the converter say otherwise."""
    import tensorflow as tf  # noqa: PLC0415  (seconds)

    converter = tf.lite.TFLiteConverter.from_keras_model(keras_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    for name, value in options.items():
        setattr(converter, name, value)
    return bytes(converter.convert())


def script(folder: Path, *lines: str) -> Path:
    """A shell script that is called instead of Python."""
    path = folder / "python"
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("litert", "litert"),
        ("tflite-runtime", "tflite-runtime"),
        ("tflite-runtime==2.14", "tflite-runtime"),
        ("tflite-runtime==2.14.0", "tflite-runtime"),
    ],
)
def test_target_names_are_parsed(text: str, chosen: str) -> None:
    assert parse_target(text) == chosen


@pytest.mark.parametrize("text", ["tflite-runtime==2.13", "tensorrt", ""])
def test_unknown_target_is_refused_with_the_supported_ones(text: str) -> None:
    with pytest.raises(UsageError, match=r"Use litert or tflite-runtime .*2\.14, its last release"):
        parse_target(text)


def test_operator_name_returns_the_custom_or_builtin_name() -> None:
    assert operator_name(Operator(32, 1, "FlexErf")) == "FlexErf"
    assert operator_name(Operator(FULLY_CONNECTED, 12)) in ("FULLY_CONNECTED", "builtin 9")
    assert operator_name(Operator(9999, 1)) == "builtin 9999"


@needs_litert
@pytest.mark.assets
def test_int8_model_loads_in_litert(assets: Path) -> None:
    assert check_target((assets / INT8).read_bytes(), "litert").startswith("The file loads in ai-edge-litert 2.")


@pytest.mark.assets
def test_int8_model_has_only_operators_of_tflite_runtime(assets: Path) -> None:
    assert "tflite-runtime 2.14.0" in check_target((assets / INT8).read_bytes(), "tflite-runtime")


def test_check_without_tflite_runtime_says_that_the_file_was_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = script(tmp_path, """echo '{"runtime": null, "complaint": "No module named tflite_runtime"}'""")
    monkeypatch.setattr(sys, "executable", str(lacking))
    assert check_target(DIGITS, "tflite-runtime") == (
        "tflite-runtime 2.14.0 supports every operator. It is not installed here, so it did not load the file."
    )


@pytest.mark.assets
def test_int8_model_loads_in_the_tflite_runtime_of_another_python(assets: Path, other_python: Path) -> None:
    message = check_target((assets / INT8).read_bytes(), "tflite-runtime", python=other_python)
    assert message == "The file loads in tflite-runtime 2.14.0."


@pytest.mark.parametrize("model", [with_tensor_type(2, FLOAT32), with_input_shape([1, 1, 1, 1])])
def test_graph_that_a_runtime_cannot_prepare_is_refused(model: bytes, other_python: Path) -> None:
    refused = r"tflite-runtime 2\.14\.0 refuses .* to prepare\..* Use another"
    with pytest.raises(ConversionError, match=refused):
        check_target(model, "tflite-runtime", python=other_python)
    with pytest.raises(ConversionError, match=r"refuses the model: .* to prepare\. Convert it again"):
        check_target(model, "litert")


@pytest.mark.assets
@pytest.mark.parametrize("chosen", ["litert", "tflite-runtime"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (
            "refuse_flex_op/whitespace_tokenizer_flex_delegate.tflite",
            r"own operators \(FlexUnicode\w+, FlexWhite.*buil",
        ),
        ("refuse_custom_op_edgetpu/mobilenet_v1_0.25_128_quant_edgetpu.tflite", "compiled for the Coral Edge TPU"),
        (
            "refuse_detector_ssd/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29_metadata.tflite",
            "custom operator TFLite_Detection_PostProcess",
        ),
    ],
)
def test_custom_operators_are_refused(assets: Path, path: str, reason: str, chosen: Target) -> None:
    with pytest.raises(ConversionError, match=reason):
        check_target((assets / "refuse" / path).read_bytes(), chosen)


def test_dynamic_model_loads_in_litert_and_is_refused_for_tflite_runtime(keras_model: Any) -> None:
    dynamic = converted(keras_model)
    assert Operator(FULLY_CONNECTED, 12) in read_model_file(dynamic).operators
    assert check_target(dynamic, "litert").startswith("The file loads in ai-edge-litert 2.")
    with pytest.raises(ConversionError) as caught:
        check_target(dynamic, "tflite-runtime")
    assert str(caught.value) == (
        "tflite-runtime 2.14.0 supports FULLY_CONNECTED up to version 10, but the model needs version 12. "
        "Use --quantize int8 or float16 instead of dynamic, or use --target litert."
    )


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")  # TensorFlow warns in every calibration
def test_remedies_for_a_dynamic_model_work(keras_model: Any, other_python: Path) -> None:
    import tensorflow as tf  # noqa: PLC0415  (seconds)

    images = [[np.full((1, 8, 8, 3), value, np.float32)] for value in (0, 1)]
    int8 = converted(keras_model, representative_dataset=lambda: iter(images))
    float16 = converted(keras_model, target_spec=tf.lite.TargetSpec(supported_types=[tf.float16]))
    for model in (int8, float16):
        message = check_target(model, "tflite-runtime", python=other_python)
        assert message == "The file loads in tflite-runtime 2.14.0."


def test_too_new_operator_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConversionError, match=r" up to version 7, but the model needs version 99\. Replace the layers"):
        check_target(with_operator_version(CONV_2D, 99), "tflite-runtime")


def test_operator_version_before_the_first_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"from version 2 up to version 3, but the model needs version 1\."):
        check_target(stating_operator(BROADCAST_TO, 1), "tflite-runtime")


def test_operator_missing_in_tflite_runtime_is_named() -> None:
    with pytest.raises(
        ConversionError, match=r"does not support (STABLEHLO_CASE|builtin 209), which the model needs in ver.* 1\."
    ):
        check_target(stating_operator(STABLEHLO_CASE, 1), "tflite-runtime")


def test_operator_that_is_too_new_for_litert_is_named() -> None:
    with pytest.raises(ConversionError, match="operator CONV_2D version 99 is newer than this runtime"):
        check_target(with_operator_version(CONV_2D, 99), "litert")


def test_model_that_crashes_its_runtime_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = script(tmp_path, "kill -SEGV $$")
    with pytest.raises(ConversionError, match=r"crashes tflite-runtime \(Segmentation fault\)\. Use"):
        check_target(DIGITS, "tflite-runtime", python=crashing)
    monkeypatch.setattr(sys, "executable", str(crashing))
    with pytest.raises(ConversionError, match=r"crashes \S+ [\d.]+ \(Segmentation fault\)\. Use"):
        check_target(DIGITS, "litert")


def test_model_that_hangs_its_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"hangs in tflite-runtime: .* within 1 s\. Use"):
        check_target(DIGITS, "tflite-runtime", python=script(tmp_path, "exec sleep 60"), limit_s=1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["echo rubbish"], "code 0 without a result: rubbish"),
        (["echo '[1]'", "echo no >&2", "exit 3"], "code 3 without a result: no"),
        (["exit 4"], "code 4 without a result: no output"),
    ],
)
def test_python_without_a_verdict_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ConversionError, match=rf"exited with {message}\. Check"):
        check_target(DIGITS, "tflite-runtime", python=script(tmp_path, *lines))


def test_python_without_tflite_runtime_is_refused(tmp_path: Path) -> None:
    lacking = script(tmp_path, """echo '{"runtime": null, "complaint": "No module named tflite_runtime"}'""")
    with pytest.raises(UsageError, match=r"cannot import tflite-runtime \(No module .*\)\. Install it there"):
        check_target(DIGITS, "tflite-runtime", python=lacking)


def test_missing_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be started: No such file or directory\."):
        check_target(DIGITS, "tflite-runtime", python=tmp_path / "python")
