"""Quantization: a function of TensorFlow becomes the bytes of a .tflite, by one of five schemes."""

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

# The operators by which a layer with weights is known, among those fused with it; TensorFlow may add a figure.
_COMPUTING = re.compile(r"/(Conv2D|convolution|depthwise|separable_conv2d|MatMul|Tensordot|einsum)\d*$")


@dataclass(frozen=True, slots=True)
class Layer:
    """One quantised layer: `error` is what int8 adds to its output, as a share of the output: 0.02 is 2 %.

    Root mean squares, of each channel by itself, since a weak channel drowns in the range of a strong one; then
    their mean. `feeds` names the layers that take the output, which is quantised unless those stay float too.
    `tensor` is TensorFlow's name for the output.
    """

    name: str
    operator: str
    error: float
    feeds: tuple[str, ...]
    tensor: str


class Quantizer:
    """One function, in any scheme; what int8 needs is calibrated once. Every method raises ConversionError."""

    def __init__(self, function: ImageFunction, representative: Representative | None) -> None:
        """`representative` is needed for int8 only."""
        self._function = function
        self._representative = representative

    def quantize(self, scheme: Scheme, *, pixels: PixelType = "uint8", keep_float: Sequence[str] = ()) -> bytes:
        """`pixels` is the type of int8's input and output; `keep_float` names layers. UsageError for unknown ones."""
        if scheme not in INT8_SCHEMES:
            return self._convert(scheme)
        tf = import_tensorflow()
        outside = tf.float32 if scheme == "int8-float" else tf.as_dtype(pixels)
        return self._quantize_int8(outside, denylisted_nodes=[self._layer(name).tensor for name in keep_float])

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer that int8 quantises, the largest error first, measured on the calibration images."""
        tf = import_tensorflow()
        model = self._quantize_int8(tf.float32, enable_numeric_verify=True)
        options = tf.lite.experimental.QuantizationDebugOptions(layer_direct_compare_metrics={"error": _share_of_error})
        table = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that its own interpreter is deprecated
            debugger = tf.lite.experimental.QuantizationDebugger(
                quant_debug_model_content=model, debug_dataset=self._representative, debug_options=options
            )
            with _failures_in_a_sentence("int8"):
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
                f"No layer is called {name!r}; the nearest are {', '.join(near)}. --explain lists them all."
            )
        return named[name]

    def _quantize_int8(self, outside: Any, **options: Any) -> bytes:
        from tensorflow.lite.python.convert import mlir_quantize  # noqa: PLC0415  (what TFLiteConverter calls)

        calibrated = self._calibrated
        with _failures_in_a_sentence("int8"):
            return bytes(mlir_quantize(calibrated, input_data_type=outside, output_data_type=outside, **options))

    @cached_property
    def _calibrated(self) -> bytes:
        """The float model with the range of every tensor."""
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
        with _failures_in_a_sentence(scheme):
            return bytes(converter.convert())


def convert_with_foreign_operators(function: ImageFunction) -> bytes:
    """Float, with operators that TensorFlow Lite lacks let through, to see which they are. ConversionError."""
    tf = import_tensorflow()
    converter = _converter(function)
    converter.allow_custom_ops = True
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with _failures_in_a_sentence("none"):
        return bytes(converter.convert())


def _converter(function: ImageFunction) -> Any:
    tf = import_tensorflow()
    # TensorFlow saves what it is given: of the whole loaded model it would save all that the function does not need,
    # slowly, and leave the variables of a .keras file of Keras 3 without their values.
    needed = tf.Module()
    needed.held = list(function.concrete.graph.variables)
    return tf.lite.TFLiteConverter.from_concrete_functions([function.concrete], needed)


def _share_of_error(exact: Array, quantized: Array, scale: float, zero_point: int) -> float:
    error = (quantized.astype(np.float32) - zero_point) * scale - exact.astype(np.float32)
    axes = tuple(range(exact.ndim - 1)) if exact.ndim == 4 else None  # of pixels; a vector has one value a channel
    power, noise = np.square(exact, dtype=np.float32).mean(axis=axes), np.square(error).mean(axis=axes)
    alive = power > 0
    return float(np.sqrt(noise[alive] / power[alive]).mean()) if alive.any() else 0.0


def _takers(model: bytes) -> dict[str, list[str]]:
    """For each tensor the outputs of the operators that take it, by name."""
    graph = Table.root(model).tables(2)[0]
    names = [tensor.string(3) or "" for tensor in graph.tables(0)]
    takers: dict[str, list[str]] = defaultdict(list)
    for operator in graph.tables(3):
        for taken in operator.numbers(1, INT32):
            takers[names[taken]] += [names[given] for given in operator.numbers(2, INT32)]
    return takers


def _layer_names(tensors: Sequence[str], variables: Sequence[str]) -> dict[str, str]:
    """For each tensor a name as training called its layer; with its path, or TensorFlow's, where two are alike."""
    paths = [_layer_path(tensor) for tensor in tensors]
    if _are_numbered_anew(paths, variables):
        paths = ["/".join(map(_without_number, path.split("/"))) for path in paths]
    candidates = [(path.rpartition("/")[2], path, tensor) for path, tensor in zip(paths, tensors, strict=True)]
    counts = Counter(name for names in candidates for name in set(names))
    return {names[-1]: next((name for name in names if name and counts[name] == 1), names[-1]) for names in candidates}


def _layer_path(tensor: str) -> str:
    """TensorFlow joins by `;` the names of what it fused, each with its operator at the end."""
    fused = tensor.split(";")
    computing = next((name for name in fused if _COMPUTING.search(name)), fused[-1])
    return re.sub(r"/ReadVariableOp\d*$", "", computing).rpartition("/")[0]


def _are_numbered_anew(paths: Sequence[str], variables: Sequence[str]) -> bool:
    """Whether a layer `conv` stands there as `conv_1`, as Keras 3 exports it, while its variables are `conv/...`."""
    layers = {part for variable in variables for part in variable.split("/")[:-1]}
    parts = {part for path in paths for part in path.split("/")}
    return len(layers & set(map(_without_number, parts))) > len(layers & parts)


def _without_number(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


@contextmanager
def _failures_in_a_sentence(scheme: str) -> Iterator[None]:
    """What TensorFlow raises, which is pages long, becomes a ConversionError."""
    try:
        yield
    except Exception as error:
        raise ConversionError(_in_plain_words(str(error), scheme)) from error


def _in_plain_words(complaint: str, scheme: str) -> str:
    if "f16" in complaint:
        return (
            "The model computes in float16 (mixed precision), which TensorFlow Lite's layers do not. Load it under "
            "keras.mixed_precision.set_global_policy('float32') and export it again."
        )
    lacking = re.findall(r"(?:TF Select|Custom) ops: ([\w, ]+)", complaint)
    if lacking:
        names = sorted({name.strip() for names in lacking for name in names.split(",")})
        return (
            f"The model has operators that TensorFlow Lite lacks: {', '.join(names)}. Change these layers to ones "
            "that it has, or take them out of what is exported."
        )
    first = next((line.strip() for line in complaint.splitlines() if line.strip()), "it gave no reason")
    return (
        f"TensorFlow cannot convert the model with --quantize {scheme}: {first[:300].rstrip('.')}. Try another scheme."
    )
