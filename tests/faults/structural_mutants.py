"""Structural mutants: valid flatbuffers in which one value contradicts another, as an attacker may make them."""

from __future__ import annotations

import itertools
import math
import struct
from typing import TYPE_CHECKING

from faults.mutants import Mutant, Patch, different, patched

from agent.model_file.flatbuffer import INT32, UINT8, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

_MAX_INT, _MIN_INT = 2**31 - 1, -(2**31)
_OPTIONS_WITH_STRIDES = (1, 2, 5)  # Conv2DOptions, DepthwiseConv2DOptions and Pool2DOptions of schema.fbs


def structural_mutants(model: bytes, random: Random) -> Iterator[Mutant]:
    """An endless series without repetitions, of every kind in turn. All are readable flatbuffers."""
    structure = _Structure(model)
    made = ((kind, damage(structure, random)) for kind, damage in itertools.cycle(_DAMAGES.items()))
    return different(model, (Mutant(kind, patched(model, patch)) for kind, patch in made if patch))


class _Structure:
    """The tables of a model, named as in schema.fbs."""

    def __init__(self, model: bytes) -> None:
        root = Table.root(model)
        self.graph = root.tables(2)[0]
        self.codes, self.buffers, self.metadata = root.tables(1), root.tables(4), root.tables(6)
        self.tensors, self.operators = self.graph.tables(0), self.graph.tables(3)
        self.quantizations = [table for tensor in self.tensors if (table := tensor.table(4)) and table.span(2)]


def _scalar(table: Table, number: int, form: str, value: int) -> Patch:
    """Empty if the field has its default and is therefore not in the file."""
    at = table._at(number)
    return {table.position + at: struct.pack(form, value)} if at else {}


def _element(table: Table, number: int, form: str, index: int, value: float) -> Patch:
    places = _places(table, number, struct.calcsize(form))
    return {places[index % len(places)]: struct.pack(form, value)} if places else {}


def _places(table: Table, number: int, width: int) -> range:
    """The positions of a vector's elements; `width` is the size of each in bytes."""
    start, count = table.span(number) or (0, 0)
    return range(start, start + count * width, width)


def _length(table: Table, number: int, new: Callable[[int], int]) -> Patch:
    """Changes a vector's length, usually within the file: the bytes after it become part of it."""
    span = table.span(number)
    return {span[0] - 4: struct.pack("<I", max(0, new(span[1])))} if span else {}


def _dimension(model: _Structure, random: Random) -> Patch:
    value = random.choice([_MIN_INT, -1, 0, 1, 2, 3, 7, 100, 1 << 16, _MAX_INT])
    return _element(random.choice(model.tensors), 0, "<i", random.randrange(4), value)


def _dimension_at_an_end(model: _Structure, random: Random) -> Patch:
    """Of the model's input or output, which every reader checks first."""
    index = random.choice([*model.graph.numbers(1, INT32), *model.graph.numbers(2, INT32)])
    value = random.choice([-1, 0, 1, 2, 97, 129, 1002, 1 << 20, _MAX_INT])
    return _element(model.tensors[index], 0, "<i", random.randrange(4), value)


def _huge(model: _Structure, random: Random) -> Patch:
    """Shapes whose product overflows, and shapes that only need too much memory."""
    tensor, side = random.choice(model.tensors), random.choice([200, 600, 1 << 12, 1 << 16, 1 << 24])
    return {at: struct.pack("<i", side) for at in _places(tensor, 0, 4)}


def _rank(model: _Structure, random: Random) -> Patch:
    step = random.choice([-4, -2, -1, 1])
    return _length(random.choice(model.tensors), 0, lambda length: length + step)


def _type(model: _Structure, random: Random) -> Patch:
    return _scalar(random.choice(model.tensors), 1, "<b", random.choice([*range(19), 127, -1]))


def _buffer(model: _Structure, random: Random) -> Patch:
    count = len(model.buffers)
    values = [0, 1, random.randrange(count), random.randrange(count), count, 2**31, 2**32 - 1]
    return _scalar(random.choice(model.tensors), 2, "<I", random.choice(values))


def _buffer_length(model: _Structure, random: Random) -> Patch:
    buffer = random.choice(model.buffers)
    return _length(buffer, 0, random.choice([lambda n: 0, lambda n: n // 2, lambda n: n - 1, lambda n: n + 4]))


def _scale(model: _Structure, random: Random) -> Patch:
    values = [math.nan, math.inf, 0.0, -1.0, -1e-3, 1e-45, 1e-12, 1e3, 3e38]
    return _element(random.choice(model.quantizations), 2, "<f", random.randrange(99), random.choice(values))


def _zero_point(model: _Structure, random: Random) -> Patch:
    values = [-(2**63), _MIN_INT, -300, -129, -1, 1, 127, 300, 2**31, 2**40]
    return _element(random.choice(model.quantizations), 3, "<q", random.randrange(99), random.choice(values))


def _scale_count(model: _Structure, random: Random) -> Patch:
    number = random.choice([2, 3])
    return _length(random.choice(model.quantizations), number, random.choice([lambda n: 0, lambda n: n + 1]))


def _axis(model: _Structure, random: Random) -> Patch:
    return _scalar(random.choice(model.quantizations), 6, "<i", random.choice([-1, 0, 1, 2, 4, 99, _MAX_INT]))


def _operator_index(model: _Structure, random: Random) -> Patch:
    """Another of the model's operators, or an index out of range."""
    values = [*range(len(model.codes)), len(model.codes), 2**32 - 1]
    return _scalar(random.choice(model.operators), 0, "<I", random.choice(values))


def _builtin(model: _Structure, random: Random) -> Patch:
    """Any existing operator or an unknown one, in both fields that may contain it."""
    code, value = random.choice(model.codes), random.choice([*range(208), 4000, -1, _MAX_INT])
    return {**_scalar(code, 0, "<b", max(-1, min(value, 127))), **_scalar(code, 3, "<i", value)}


def _operator_version(model: _Structure, random: Random) -> Patch:
    return _scalar(random.choice(model.codes), 2, "<i", random.choice([-1, 0, 2, 3, 4, 6, 99, _MAX_INT]))


def _operator_input(model: _Structure, random: Random) -> Patch:
    return _operator_end(model, random, 1)


def _operator_output(model: _Structure, random: Random) -> Patch:
    return _operator_end(model, random, 2)


def _operator_end(model: _Structure, random: Random, number: int) -> Patch:
    count = len(model.tensors)
    values = [-1, -2, _MIN_INT, count, _MAX_INT, *(random.randrange(count) for _ in range(3))]
    return _element(random.choice(model.operators), number, "<i", random.randrange(3), random.choice(values))


def _operator_ends(model: _Structure, random: Random) -> Patch:
    """Fewer inputs or outputs than the operator needs, or one too many."""
    number, step = random.choice([1, 2]), random.choice([-2, -1, 1])
    return _length(random.choice(model.operators), number, lambda length: length + step)


def _self_reference(model: _Structure, random: Random) -> Patch:
    operator = random.choice(model.operators)
    return _element(operator, 1, "<i", 0, operator.numbers(2, INT32)[0])


def _cycle(model: _Structure, random: Random) -> Patch:
    """An operator needs the output of a later one."""
    first, later = sorted(random.sample(range(len(model.operators)), 2))
    return _element(model.operators[first], 1, "<i", 0, model.operators[later].numbers(2, INT32)[0])


def _graph_end(model: _Structure, random: Random) -> Patch:
    values = [-1, len(model.tensors), _MAX_INT, *(random.randrange(len(model.tensors)) for _ in range(4))]
    return _element(model.graph, random.choice([1, 2]), "<i", 0, random.choice(values))


def _stride(model: _Structure, random: Random) -> Patch:
    with_strides = [each for each in model.operators if each.scalar(3, UINT8) in _OPTIONS_WITH_STRIDES]
    options = random.choice(with_strides).table(4)
    return _scalar(options, random.choice([1, 2]), "<i", random.choice([0, -1, 3, 99, _MAX_INT])) if options else {}


def _options(model: _Structure, random: Random) -> Patch:
    """The options of one operator, with the type of another's."""
    return _scalar(random.choice(model.operators), 3, "<B", random.randrange(126))


def _metadata(model: _Structure, random: Random) -> Patch:
    if not model.metadata:
        return {}
    count = len(model.buffers)
    values = [0, random.randrange(count), count, 2**31, 2**32 - 1]
    return _scalar(random.choice(model.metadata), 1, "<I", random.choice(values))


_DAMAGES: dict[str, Callable[[_Structure, Random], Patch]] = {
    "dimension": _dimension,
    "dimension of the input or output": _dimension_at_an_end,
    "huge dimensions": _huge,
    "rank": _rank,
    "type": _type,
    "buffer": _buffer,
    "buffer length": _buffer_length,
    "scale": _scale,
    "zero point": _zero_point,
    "number of scales": _scale_count,
    "quantized axis": _axis,
    "operator index": _operator_index,
    "operator": _builtin,
    "operator version": _operator_version,
    "operator input": _operator_input,
    "operator output": _operator_output,
    "number of operator inputs or outputs": _operator_ends,
    "self-reference": _self_reference,
    "cycle": _cycle,
    "input or output of the graph": _graph_end,
    "stride": _stride,
    "operator options": _options,
    "metadata": _metadata,
}
