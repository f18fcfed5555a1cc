"""Damage to SavedModels: to their bytes, their files and the structure of their graphs, reproducible by number."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WEIGHTS, _INDEX, _GRAPH = "variables/variables.data-00000-of-00001", "variables/variables.index", "saved_model.pb"


def damage(source: Path, target: Path, number: int) -> str:
    """Copies the folder with one damage; each `number` has another one. Returns what was done."""
    shutil.copytree(source, target)
    rng = random.Random(number)
    kind = _KINDS[number % len(_KINDS)]
    kind(target, rng)
    return f"{number}: {kind.__name__.strip('_')}"


def _some_bytes_of_the_graph(folder: Path, rng: random.Random) -> None:
    _flip(folder / _GRAPH, rng)


def _some_bytes_of_the_index(folder: Path, rng: random.Random) -> None:
    _flip(folder / _INDEX, rng)


def _some_bytes_of_the_weights(folder: Path, rng: random.Random) -> None:
    _flip(folder / _WEIGHTS, rng)


def _cut_off_file(folder: Path, rng: random.Random) -> None:
    path = folder / rng.choice((_GRAPH, _INDEX, _WEIGHTS))
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _missing_file(folder: Path, rng: random.Random) -> None:
    (folder / rng.choice((_INDEX, _WEIGHTS))).unlink()


def _noise_instead_of_a_file(folder: Path, rng: random.Random) -> None:
    path = folder / rng.choice((_GRAPH, _INDEX, _WEIGHTS))
    path.write_bytes(rng.randbytes(path.stat().st_size))


def _swapped_files(folder: Path, rng: random.Random) -> None:
    one, other = (folder / name for name in rng.sample((_GRAPH, _INDEX, _WEIGHTS), 2))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _node_without_its_inputs(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        rng.choice([node for node in _nodes(graph) if node.input]).ClearField("input")

    _change(folder, change)


def _node_of_another_operator(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        nodes = _nodes(graph)
        rng.choice(nodes).op = rng.choice([*(node.op for node in nodes), "NoSuchOp", "While", "PyFunc", ""])

    _change(folder, change)


def _node_that_reads_itself(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        node = rng.choice([node for node in _nodes(graph) if node.input])
        node.input[0] = node.name

    _change(folder, change)


def _attributes_of_another_node(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        one, other = rng.sample(_nodes(graph), 2)
        one.attr.clear()
        one.attr.MergeFrom(other.attr)

    _change(folder, change)


def _huge_constant(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        node = rng.choice([node for node in _nodes(graph) if node.op == "Const"])
        del node.attr["value"].tensor.tensor_shape.dim[:]
        for _ in range(3):
            node.attr["value"].tensor.tensor_shape.dim.add().size = rng.choice((1 << 20, 1 << 40, -1, 0))

    _change(folder, change)


def _signature_of_other_shapes(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        for info in graph.signature_def["serving_default"].inputs.values():
            for dim in info.tensor_shape.dim:
                dim.size = rng.choice((-1, 0, 1, 3, 16, 1 << 31, 1 << 62))

    _change(folder, change)


def _signature_of_tensors_that_do_not_exist(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        signature = graph.signature_def["serving_default"]
        for info in (*signature.inputs.values(), *signature.outputs.values()):
            info.name = rng.choice((info.name, "no_such:0", "", "x" * 10_000))

    _change(folder, change)


def _objects_in_a_circle(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        nodes = graph.object_graph_def.nodes
        for node in nodes:
            for child in node.children:
                child.node_id = rng.choice((rng.randrange(len(nodes)), len(nodes), -1, 1 << 30))

    _change(folder, change)


def _variable_of_another_kind(folder: Path, rng: random.Random) -> None:
    def change(graph: Any) -> None:
        for node in graph.object_graph_def.nodes:
            if node.HasField("variable"):
                node.variable.dtype = rng.randrange(30)
                for dim in node.variable.shape.dim:
                    dim.size = rng.choice((0, 1, 7, 1 << 40))

    _change(folder, change)


_KINDS: tuple[Callable[[Path, random.Random], None], ...] = (
    _some_bytes_of_the_graph,
    _cut_off_file,
    _node_without_its_inputs,
    _some_bytes_of_the_weights,
    _node_of_another_operator,
    _missing_file,
    _node_that_reads_itself,
    _some_bytes_of_the_index,
    _attributes_of_another_node,
    _noise_instead_of_a_file,
    _huge_constant,
    _swapped_files,
    _signature_of_other_shapes,
    _signature_of_tensors_that_do_not_exist,
    _objects_in_a_circle,
    _variable_of_another_kind,
)


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 3, 20))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)


def _change(folder: Path, change: Callable[[Any], None]) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415  (only in .venv-converter)

    proto = SavedModel.FromString((folder / _GRAPH).read_bytes())
    change(proto.meta_graphs[0])
    (folder / _GRAPH).write_bytes(proto.SerializeToString())


def _nodes(graph: Any) -> list[Any]:
    return [*graph.graph_def.node, *(node for each in graph.graph_def.library.function for node in each.node_def)]
