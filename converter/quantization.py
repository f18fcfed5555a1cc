"""Quantization: converts a TensorFlow function to the bytes of a .tflite file, by one of five schemes."""

from __future__ import annotations

import csv
import difflib
import io
import re
import warnings
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from agent.model_file.flatbuffer import INT32, Table
from agent.runtimes.tensorflow import import_tensorflow
from agent.text import shortened
from converter.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from agent.runtimes.saved_model import ImageFunction

    Array: TypeAlias = npt.NDArray[np.generic]
    Representative: TypeAlias = Callable[[], Iterator[list[Array]]]

Scheme = Literal["int8", "int8-float", "float16", "dynamic", "none"]
PixelType = Literal["uint8", "int8"]

INT8_SCHEMES = ("int8", "int8-float")

# Operators that identify a layer with weights among those fused with it; TensorFlow may append a number.
_COMPUTING = re.compile(r"/(Conv2D|convolution|depthwise|separable_conv2d|MatMul|Tensordot|einsum)\d*$")


@dataclass(frozen=True, slots=True)
class Layer:
    """One quantized layer: `error` is the error that int8 adds to its output, relative to the output: 0.02 is 2 %.

    It is the mean over the channels of their relative root mean square error, so that a strong channel does not hide
    the error of a weak one. `feeds` names the layers that read the output, which is quantized unless they stay float
    too. `tensor` is TensorFlow's name for the output.
    """

    name: str
    operator: str
    error: float
    feeds: tuple[str, ...]
    tensor: str


class Quantizer:
    """Converts one function by any scheme; calibrates int8 only once. Every method raises ConversionError."""

    def __init__(self, function: ImageFunction, representative: Representative | None) -> None:
        """Only int8 needs `representative`."""
        self._function = function
        self._representative = representative

    @cached_property
    def apart(self) -> Quantizer:
        """The same with a copy of the input in between, so that int8 gives the input a scale of its own.

        TensorFlow otherwise makes it share the scale of what slices and joins compute from it, such as BGR less means.
        """
        tf = import_tensorflow()
        same = tf.ones((1, 1, self._function.input.shape[3], 1))
        copied = self._function.after(lambda image: tf.nn.depthwise_conv2d(image, same, (1, 1, 1, 1), "VALID"))
        return Quantizer(copied, self._representative)

    def quantize(self, scheme: Scheme, *, pixels: PixelType = "uint8", keep_float: Sequence[str] = ()) -> bytes:
        """`pixels` is the type of int8's input and output. Raises UsageError if a layer in `keep_float` is unknown."""
        if scheme not in INT8_SCHEMES:
            return self._convert(scheme)
        tf = import_tensorflow()
        outside = tf.float32 if scheme == "int8-float" else tf.as_dtype(pixels)
        return self._quantize_int8(outside, denylisted_nodes=[self._layer(name).tensor for name in keep_float])

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer that int8 quantizes, largest error first, measured on the calibration images."""
        tf = import_tensorflow()
        model = self._quantize_int8(tf.float32, enable_numeric_verify=True)
        options = tf.lite.experimental.QuantizationDebugOptions(layer_direct_compare_metrics={"error": _share_of_error})
        table = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the debugger warns that its own interpreter is deprecated
            debugger = tf.lite.experimental.QuantizationDebugger(
                quant_debug_model_content=model, debug_dataset=self._representative, debug_options=options
            )
            with _failures_as_conversion_errors("int8"):
                debugger.run()
            debugger.layer_statistics_dump(table)
        table.seek(0)
        rows = list(csv.DictReader(table))
        variables = [variable.name for variable in self._function.concrete.graph.variables]
        names = _layer_names([row["tensor_name"] for row in rows], variables)
        takers = _takers(self._calibrated)
        layers = [
            Layer(
                name=names[row["tensor_name"]],
                operator=row["op_name"],
                error=float(row["error"]),
                feeds=tuple(names[taker] for taker in takers[row["tensor_name"]] if taker in names),
                tensor=row["tensor_name"],
            )
            for row in rows
        ]
        return tuple(sorted(layers, key=lambda layer: -layer.error))

    def _layer(self, name: str) -> Layer:
        named = {layer.name: layer for layer in self.layers}
        if name not in named:
            near = difflib.get_close_matches(name, named, n=3, cutoff=0)
            raise UsageError(
                f"The model has no layer {name!r}. Similar names: {', '.join(near)}. --explain lists all layers."
            )
        return named[name]

    def _quantize_int8(self, outside: Any, **options: Any) -> bytes:
        from tensorflow.lite.python.convert import mlir_quantize  # noqa: PLC0415  (what TFLiteConverter calls)

        calibrated = self._calibrated
        with _failures_as_conversion_errors("int8"):
            return bytes(mlir_quantize(calibrated, input_data_type=outside, output_data_type=outside, **options))

    @cached_property
    def _calibrated(self) -> bytes:
        """The float model with the measured range of every tensor."""
        return self._convert("int8")

    def _convert(self, scheme: Scheme) -> bytes:
        tf = import_tensorflow()
        converter = _converter(self._function)
        if scheme != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if scheme == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if scheme == "int8":
            converter.representative_dataset = self._representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter._experimental_calibrate_only = True  # noqa: SLF001  (as TensorFlow's own QuantizationDebugger)
        with _failures_as_conversion_errors(scheme):
            return bytes(converter.convert())


def convert_with_foreign_operators(function: ImageFunction) -> bytes:
    """A float model that may contain operators that TensorFlow Lite lacks, to list them. Raises ConversionError."""
    tf = import_tensorflow()
    converter = _converter(function)
    converter.allow_custom_ops = True
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with _failures_as_conversion_errors("none"):
        return bytes(converter.convert())


def _converter(function: ImageFunction) -> Any:
    tf = import_tensorflow()
    # TensorFlow saves the object that it is given. The whole loaded model would be slow, since it has parts that the
    # function does not need, and the variables of a Keras 3 .keras file would lose their values.
    needed = tf.Module()
    needed.held = list(function.concrete.graph.variables)
    return tf.lite.TFLiteConverter.from_concrete_functions([function.concrete], needed)


def _share_of_error(exact: Array, quantized: Array, scale: float, zero_point: int) -> float:
    error = (quantized.astype(np.float32) - zero_point) * scale - exact.astype(np.float32)
    axes = tuple(range(exact.ndim - 1)) if exact.ndim == 4 else None  # over pixels; a vector has one value per channel
    power, noise = np.square(exact, dtype=np.float32).mean(axis=axes), np.square(error).mean(axis=axes)
    alive = power > 0
    return float(np.sqrt(noise[alive] / power[alive]).mean()) if alive.any() else 0.0


def _takers(model: bytes) -> dict[str, list[str]]:
    """For each tensor, the names of the outputs of the operators that read it."""
    graph = Table.root(model).tables(2)[0]
    names = [tensor.string(3) or "" for tensor in graph.tables(0)]
    takers: dict[str, list[str]] = defaultdict(list)
    for operator in graph.tables(3):
        for taken in operator.numbers(1, INT32):
            takers[names[taken]] += [names[given] for given in operator.numbers(2, INT32)]
    return takers


def _layer_names(tensors: Sequence[str], variables: Sequence[str]) -> dict[str, str]:
    """For each tensor, the name of its layer in training. Duplicates get their path, or TensorFlow's name."""
    paths = [_layer_path(tensor) for tensor in tensors]
    if _are_renumbered(paths, variables):
        paths = ["/".join(map(_without_number, path.split("/"))) for path in paths]
    candidates = [(path.rpartition("/")[2], path, tensor) for path, tensor in zip(paths, tensors, strict=True)]
    counts = Counter(name for names in candidates for name in set(names))
    return {names[-1]: next((name for name in names if name and counts[name] == 1), names[-1]) for names in candidates}


def _layer_path(tensor: str) -> str:
    """TensorFlow joins the names of fused operators by `;`. Each name ends in its operator."""
    fused = tensor.split(";")
    computing = next((name for name in fused if _COMPUTING.search(name)), fused[-1])
    return re.sub(r"/ReadVariableOp\d*$", "", computing).rpartition("/")[0]


def _are_renumbered(paths: Sequence[str], variables: Sequence[str]) -> bool:
    """Whether a layer `conv` appears as `conv_1`, as Keras 3 exports it, while its variables are named `conv/...`."""
    layers = {part for variable in variables for part in variable.split("/")[:-1]}
    parts = {part for path in paths for part in path.split("/")}
    return len(layers & set(map(_without_number, parts))) > len(layers & parts)


def _without_number(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


@contextmanager
def _failures_as_conversion_errors(scheme: str) -> Iterator[None]:
    """Turns TensorFlow's errors, which are pages long, into a ConversionError of one sentence."""
    try:
        yield
    except Exception as error:
        raise ConversionError(_explanation(str(error), scheme)) from error


def _explanation(complaint: str, scheme: str) -> str:
    lacking = re.findall(r"(?:TF Select|Custom) ops: ([\w, ]+)", complaint)
    if "f16>" in complaint:
        return (
            "The model computes in float16 (mixed precision) in a part that cannot be changed to float32. Build it "
            "again after keras.mixed_precision.set_global_policy('float32'), load its weights with load_weights(), and "
            "export that."
        )
    if re.search(r"[x<]i[48]>|'f8E", complaint):
        return (
            "The model was quantized before its export, for example by quantize('int8') of Keras, which TensorFlow "
            "Lite cannot convert. Export it without that; edge-convert quantizes it itself."
        )
    if lacking:
        names = sorted({name.strip() for names in lacking for name in names.split(",")})
        return (
            f"The model uses operators that TensorFlow Lite does not support: {', '.join(names)}. Replace these "
            "layers, or leave them out of the export."
        )
    return f"TensorFlow cannot convert the model with --quantize {scheme}: {_in_words(complaint)}. Try another scheme."


def _in_words(complaint: str) -> str:
    """The first sentence of TensorFlow's error, or the operator if it is in the language of its compiler."""
    operator = re.search(r"'(?:tfl?|tf_saved_model)\.(\w+)' op", complaint)
    if operator:
        return f"it has no way to convert the operator {operator[1]}"
    first = next((line.strip() for line in complaint.splitlines() if line.strip()), "it gives no reason")
    first = re.sub(r"(^|(?<=\.))\S+:\d+:\d+: (error: )?", " ", first).strip()
    return "its compiler fails" if re.search(r"loc\(|tensor<|%\d", first) else shortened(first)
