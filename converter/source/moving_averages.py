"""Moving averages: what batch normalization uses in inference, in place of the mean and variance of the batch.

Keras 3 exports the layers behind an augmentation, Resizing or CenterCrop layer as they are in training. There, batch
normalization uses the figures of the batch, and updates its moving averages of them.
"""

from __future__ import annotations

from typing import Any

_AVERAGING = ("Add", "AddV2", "Mul", "Sub")
_PASSING = ("Cast", "Identity")
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def use_moving_averages(graph: Any) -> None:
    """Puts the averages in place of the figures of the batch; `graph` is frozen and still has their updates."""
    nodes = {node.name: node for node in graph.node}
    for update in graph.node:
        if not update.op.startswith("Assign"):
            continue
        average, new = update.input[:2]
        figures, operators = _averaged(new, nodes)
        if len(figures) == 1 and operators & {*_AVERAGING, *_FUSED}:
            _replace(graph, figures.pop(), average, nodes)


def _averaged(tensor: str, nodes: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The tensors, except constants, of which `tensor` is a weighted sum, and the operators that compute it."""
    pending, seen, figures, operators = [tensor], {tensor}, set[str](), set[str]()
    while pending:
        node = _node_of(current := pending.pop(), nodes)
        operators.add(node.op)
        if node.op in (*_AVERAGING, *_PASSING):
            further = {name for name in node.input if not name.startswith("^")} - seen
            pending += further
            seen |= further
        elif node.op != "Const":
            figures.add(current)
    return figures, operators


def _replace(graph: Any, figure: str, average: str, nodes: dict[str, Any]) -> None:
    computing = _node_of(figure, nodes)
    if computing.op in _FUSED:
        computing.attr["is_training"].b = False
        computing.input[3 if figure.endswith(":1") else 4] = average
    for node in graph.node:
        node.input[:] = [average if tensor == figure else tensor for tensor in node.input]


def _node_of(tensor: str, nodes: dict[str, Any]) -> Any:
    return nodes[tensor.partition(":")[0]]
