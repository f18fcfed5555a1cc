"""Outputs: what the model returned, in the form that a client asks for: as a tensor, or as the best classes in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent.errors import TensorError
from agent.open_inference.tensors import BYTES, Header, datatype_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.inference.inferred import Inferred
    from agent.open_inference.tensors import Array
    from agent.runtimes.serving_signature import ServingSignature

_RAW = "raw"  # the logits of the first output; not in the metadata, since clients ask for every output there


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a client asks for; with `classes`, only that many of the best, as text.

    `is_binary`: over HTTP, its values follow the JSON.
    """

    name: str
    classes: int = 0
    is_binary: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """`values` are by rows, one row per image."""

    header: Header
    values: Array | list[bytes]


def wanted_outputs(
    wanted: Sequence[Wanted], signature: ServingSignature, *, all_binary: bool = False
) -> Sequence[Wanted]:
    """All outputs if `wanted` is empty. Raises TensorError for one that the model does not have."""
    names = [output.name for output in signature.outputs]
    for each in wanted:
        if each.name not in names and not (each.name == _RAW and signature.has_logits):
            raise TensorError(f"The model has no output {each.name[:80]!r}. Its outputs: {', '.join(names)}.")
    return wanted or [Wanted(name, is_binary=all_binary) for name in names]


def output(wanted: Wanted, inferred: Sequence[Inferred], labels: Sequence[str]) -> Output:
    """`inferred` has the outputs of each image; `wanted` is one of wanted_outputs()."""
    if wanted.classes and wanted.name == next(iter(inferred[0].outputs)):
        return _classified(wanted, [each.scores.probabilities for each in inferred], labels)
    rows = [each.outputs.get(wanted.name, each.raw) for each in inferred]
    if wanted.classes:
        return _classified(wanted, [row.ravel() for row in rows], labels if rows[0].size == len(labels) else ())
    values = np.stack(rows)
    return Output(Header(wanted.name, datatype_of(values.dtype.name), values.shape), values)


def times(inferred: Sequence[Inferred]) -> dict[str, float]:
    """Milliseconds; of several images, the longest time in the queue and the sums of the others."""
    timings = [each.result.classification.timing for each in inferred]
    return {
        "queue_ms": round(max(timing.queue for timing in timings), 3),
        "decode_ms": round(sum(timing.decode for timing in timings), 3),
        "preprocess_ms": round(sum(timing.preprocess for timing in timings), 3),
        "infer_ms": round(sum(timing.invoke for timing in timings), 3),
    }


def _classified(wanted: Wanted, rows: Sequence[Array], labels: Sequence[str]) -> Output:
    columns = min(wanted.classes, rows[0].size)
    elements = [_text(row, index, labels) for row in rows for index in _best(row)[:columns].tolist()]
    return Output(Header(wanted.name, BYTES, (len(rows), columns)), elements)


def _best(row: Array) -> Array:
    """The highest value first; among equals the lower index first."""
    return np.negative(row.astype(np.float64)).argsort(kind="stable")


def _text(row: Array, index: int, labels: Sequence[str]) -> bytes:
    """The value, the index and the label, as Triton's classification extension writes them."""
    value = f"{row[index]:f}" if row.dtype.kind == "f" else str(int(row[index]))
    return ":".join([value, str(index), *labels[index : index + 1]]).encode()
