"""Inference graph: a trained function without what TensorFlow Lite cannot compute or only training needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError
from agent.runtimes.tensorflow import import_tensorflow
from converter.source.moving_averages import use_moving_averages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agent.runtimes.saved_model import ImageFunction

_RANDOM = ("Random", "StatelessRandom", "StatelessTruncatedNormal", "TruncatedNormal", "ParameterizedTruncatedNormal")


def for_inference(function: ImageFunction) -> ImageFunction:
    """The same in float32 and as in inference. Raises ModelError if it computes with random numbers even then.

    TensorFlow Lite cannot compute in float16, bfloat16 or float64; in mixed precision the weights are float32 anyway.
    Random layers, which augment images or drop values, return their input in inference, but Keras 3 exports them as
    they are in training, and with them the batch normalization behind them.
    """
    graph = function.concrete.graph.as_graph_def()
    if not any(_is_random(node) or _is_other_float(node) or _is_update(node) for node in _all_nodes(graph)):
        return function
    return _Graph(function).as_function()


class _Graph:
    """The graph of a function with its variables as constants and its calls inlined."""

    def __init__(self, function: ImageFunction) -> None:
        tf = import_tensorflow()
        self._function = function
        self._proto = _frozen(function.concrete)
        with tf.Graph().as_default() as self._graph:
            tf.import_graph_def(self._proto, name="")

    def as_function(self) -> ImageFunction:
        tf = import_tensorflow()
        for node in self._proto.node:
            if _is_random(node):
                self._bypass(node.name)
        concrete = self._function.concrete
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(self._proto, name=""), [])
        pruned = wrapped.prune(concrete.inputs[0].name, concrete.outputs[0].name)
        _refuse_random(pruned.graph.as_graph_def(), self._function.trained.path)
        image = tf.TensorSpec(self._function.input.shape, tf.float32, name="image")
        return replace(self._function, concrete=tf.function(pruned).get_concrete_function(image))

    def _bypass(self, random: str) -> None:
        """Leaves out the smallest scope around the operator that turns one tensor of the image into a similar one."""
        for scope in _scopes(random):
            inside = {node.name for node in self._proto.node if node.name.startswith(f"{scope}/")}
            entering = {
                tensor
                for node in self._proto.node
                if node.name in inside
                for tensor in _tensors(node.input)
                if _node(tensor) not in inside and _node(tensor) in self._from_image
            }
            leaving = {
                tensor
                for node in self._proto.node
                if node.name not in inside
                for tensor in _tensors(node.input)
                if _node(tensor) in inside
            }
            if len(entering) == len(leaving) == 1 and self._kind(*entering) == self._kind(*leaving):
                self._replace(*leaving, *entering)
                return

    @property
    def _from_image(self) -> set[str]:
        """The names of the nodes that depend on the image. Nodes are in the order of their computation."""
        found = {self._function.concrete.inputs[0].op.name}
        for node in self._proto.node:
            if any(_node(tensor) in found for tensor in _tensors(node.input)):
                found.add(node.name)
        return found

    def _kind(self, tensor: str) -> tuple[str, list[int | None] | None]:
        known = self._graph.get_tensor_by_name(tensor if ":" in tensor else f"{tensor}:0")
        return known.dtype.name, known.shape.as_list() if known.shape.rank is not None else None

    def _replace(self, old: str, new: str) -> None:
        for node in self._proto.node:
            node.input[:] = [new if tensor == old else tensor for tensor in node.input]


def _frozen(concrete: Any) -> Any:
    """Without updates of variables, such as states of random generators, since variables are constants now."""
    from tensorflow.python.framework import convert_to_constants as constants  # noqa: PLC0415  (as TFLiteConverter)

    data = constants._FunctionConverterDataInEager(concrete, lower_control_flow=False, aggressive_inlining=True)  # noqa: SLF001
    proto, _ = constants._replace_variables_by_constants(data)  # noqa: SLF001
    use_moving_averages(proto)
    assigning = {node.name for node in proto.node if _is_update(node)}
    kept = [node for node in proto.node if node.name not in assigning]
    for node in kept:
        node.input[:] = [name for name in node.input if name.removeprefix("^") not in assigning]
        if node.op == "RngReadAndSkip":
            _make_fixed_seed(node)
    del proto.node[:]
    proto.node.extend(kept)
    for node in _all_nodes(proto):
        _make_float32(node)
    return proto


def _make_fixed_seed(node: Any) -> None:
    """Replaces the state that random layers of Keras 2 read from a variable, of which they make their seeds."""
    tf = import_tensorflow()
    node.CopyFrom(tf.compat.v1.NodeDef(name=node.name, op="Const"))
    node.attr["dtype"].type = tf.int64.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto([0, 0, 0], tf.int64))


def _refuse_random(graph: Any, path: Path) -> None:
    names = [node.name for node in graph.node if _is_random(node)]
    if names:
        layer = names[0].rpartition("/")[0].rpartition("/")[2] or names[0]
        raise ModelError(
            f"{path} computes with random numbers (in {layer!r}), as layers that augment images do in training, so its "
            "answers change from call to call. Leave these layers out of the export, or give the .keras file."
        )


def _all_nodes(graph: Any) -> list[Any]:
    return [*graph.node, *(node for part in graph.library.function for node in part.node_def)]


def _is_random(node: Any) -> bool:
    return str(node.op).startswith(_RANDOM) or node.op in ("Multinomial", "StatelessMultinomial")


def _is_update(node: Any) -> bool:
    return str(node.op).startswith("Assign")


def _other_floats() -> set[int]:
    from tensorflow.core.framework import types_pb2  # noqa: PLC0415  (TensorFlow's)

    return {types_pb2.DT_HALF, types_pb2.DT_BFLOAT16, types_pb2.DT_DOUBLE}


def _is_other_float(node: Any) -> bool:
    others = _other_floats()
    return any(attr.type in others or others & set(attr.list.type) for attr in node.attr.values())


def _make_float32(node: Any) -> None:
    """Changes the types that the node is given, and the values of a constant."""
    tf = import_tensorflow()
    others, float32 = _other_floats(), tf.float32.as_datatype_enum
    for attr in node.attr.values():
        if attr.type in others:
            attr.type = float32
        if attr.list.type:
            attr.list.type[:] = [float32 if kind in others else kind for kind in attr.list.type]
        if attr.HasField("tensor") and attr.tensor.dtype in others:
            attr.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(attr.tensor).astype("float32")))


def _scopes(name: str) -> Iterator[str]:
    """`a/b` and `a` for `a/b/c`."""
    parts = name.split("/")
    return ("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))


def _tensors(inputs: Iterable[str]) -> Iterator[str]:
    return (name for name in inputs if not name.startswith("^"))


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]
