"""JSON arrays: reads and writes JSON whose lists of numbers may be large.

As Python objects, the 8 MB of a hostile body could become 200 MB, and reading them would stop everything else for a
second. So read_object() takes every list without text and objects out of the body before the rest is parsed. Each
becomes a NumberList, which knows its shape from its brackets and commas, and parses its numbers a piece at a time.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
from starlette.exceptions import HTTPException

from agent.errors import TensorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.generic]

P = ParamSpec("P")
T = TypeVar("T")

_LARGE_BYTES = 64 << 10  # larger JSON is parsed in a thread,
_LARGE_TEXT_BYTES = 256 << 10  # unless it is text, of which a byte takes a hundredth of the time of a number
_FEW_NUMBERS = 1000
_MAX_PARTS = 4096  # quotes and braces
_MAX_REST_BYTES = 64 << 10  # what is neither text nor in a NumberList
_MAX_RANK = 8
_PIECE_BYTES = 32 << 10  # of numbers; parsing it takes about a millisecond, during which no other thread runs
_MAX_NUMBER_BYTES = 1000
_MANY = 100  # floats to write

_STRUCTURE = b"[],"
_NOT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))
_IN_NUMBERS = b"0123456789+-.eE \t\r\n"
_NOT_FINITE = re.compile(rb"(?:NaN|Infinity)*")
_OPENING = re.compile(rb"\[*")
_EMPTY_LIST = re.compile(rb"\[[ \t\r\n]*\]")
_SPACE = b" \t\r\n"
_WITHOUT_BRACKETS = bytes.maketrans(b"[]", b"  ")
_PLACEHOLDER = b"NaN"


class NumberList:
    """A list in a JSON text with numbers or further such lists; its text is not checked before array()."""

    def __init__(self, text: bytes | bytearray) -> None:
        self._text = text

    @property
    def is_empty(self) -> bool:
        return _EMPTY_LIST.fullmatch(self._text) is not None

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The sides of the first list at each level; array() checks that the others have the same.

        Raises TensorError if the list is nested too deeply, or if the first lists contradict each other.
        """
        structure = self._structure
        rank = _OPENING.match(structure).end()  # type: ignore[union-attr]  # it matches nothing, too
        if rank > _MAX_RANK:
            raise TensorError(f"A list is nested more than {_MAX_RANK} levels deep. Send lists in the model's shape.")
        if self.is_empty:
            return (0,)
        commas = structure.find(b"]") - rank
        sides, length = [commas + 1], commas + 2
        for level in range(2, rank + 1):
            end = structure.find(b"]" * level)
            whole = end + 2 * level - rank  # from the bracket that opens the first list of this level
            side, rest = divmod(whole - 1, length + 1)
            if end < 0 or rest:
                raise _ragged()
            sides.insert(0, side)
            length = whole
        return tuple(sides)

    def array(self, dtype: str) -> Array:
        """Raises TensorError if the list is not a tensor of `dtype`, HTTPException 400 if it is not JSON."""
        shape = self.shape
        if self._structure != _structure_of(shape):
            raise _ragged()
        if shape[-1] == 1 and _EMPTY_LIST.search(self._text):  # [] has the brackets and commas of [5]
            raise TensorError("A list in the tensor is empty. Send lists in the model's shape.")
        if not _NOT_FINITE.fullmatch(self._without_numbers.translate(None, _STRUCTURE)):
            raise _not_a_number(self._text, dtype)
        flat = np.empty(math.prod(shape), dtype)
        filled = 0
        for piece in _pieces(self._text):
            numbers = as_dtype(_parsed(piece), dtype)
            flat[filled : filled + len(numbers)] = numbers
            filled += len(numbers)
        if filled < len(flat):  # a comma without a number behind it
            raise _not_json(ValueError("a value is missing"))
        return flat.reshape(shape)

    @cached_property
    def _structure(self) -> bytes | bytearray:
        """The brackets and commas."""
        rest = self._without_numbers
        return rest.translate(None, _NOT_STRUCTURE) if rest.translate(None, _STRUCTURE) else rest

    @cached_property
    def _without_numbers(self) -> bytes | bytearray:
        return self._text.translate(None, _IN_NUMBERS)


async def parsed(body: bytes | bytearray, size: int, parse: Callable[P, T], *words: P.args, **options: P.kwargs) -> T:
    """What `parse` returns for the JSON in the first `size` bytes of `body`.

    If that takes long, it does not keep the event loop waiting.
    """
    if size <= _LARGE_BYTES or (size <= _LARGE_TEXT_BYTES and body.count(b",", 0, size) < _FEW_NUMBERS):
        return parse(*words, **options)
    return await asyncio.to_thread(parse, *words, **options)


def read_object(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object in `body`, with a NumberList for each list of numbers. Any thread.

    Raises HTTPException 400 if the body is not such an object, or has too many parts.
    """
    if not body or body.isspace():
        raise HTTPException(400, "The body is empty. Send a JSON object.")
    view = memoryview(body)
    pieces: list[memoryview | bytes] = []
    lists, end, rest = [], 0, 0
    for start, stop in _outside_text(body):
        first, last = body.find(b"[", start, stop), body.rfind(b"]", start, stop)
        rest += stop - start
        if 0 <= first < last and body.count(b"[", first, last + 1) == body.count(b"]", first, last + 1):
            pieces += [view[end:first], _PLACEHOLDER]
            lists.append(NumberList(body[first : last + 1]))
            end = last + 1
            rest -= end - first
    if rest > _MAX_REST_BYTES:
        raise HTTPException(400, "The body has large lists that mix numbers with text or objects. Send one kind.")
    # Each text is freed once the next one is made of it: a body may be 8 MB long.
    document = _loaded(_decoded(b"".join((*pieces, view[end:])) if pieces else body), lists)
    if not isinstance(document, dict):
        raise HTTPException(400, f"The body is {kind_of(document)}. Send a JSON object.")
    return document


def _decoded(text: bytes | bytearray) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise HTTPException(400, "The body is not UTF-8. Send JSON in UTF-8.") from None


def _loaded(text: str, lists: list[NumberList]) -> Any:
    """Puts each of `lists` in the place of its placeholder."""
    constants = 0

    def constant(_: str) -> NumberList | None:
        nonlocal constants
        constants += 1
        return lists[constants - 1] if constants <= len(lists) else None

    try:
        document = json.loads(text, parse_constant=constant)
    except RecursionError:
        raise HTTPException(400, "The JSON is nested too deeply. Send a flatter document.") from None
    except ValueError as error:  # also an integer of more than 4300 digits
        raise _not_json(error) from None
    if constants != len(lists):
        raise HTTPException(400, "NaN and Infinity are possible only in lists of numbers.")
    return document


def _outside_text(body: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """The parts of `body` between quoted text and braces."""
    if b"\\" in body:  # then a quote may be escaped, and so may the backslash before it
        body = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    found = dict.fromkeys((b'"', b"{", b"}"), -1)
    start = 0
    for _ in range(_MAX_PARTS):
        if start >= len(body):
            return
        for character in found:
            if found[character] < start:
                position = body.find(character, start)
                found[character] = len(body) if position < 0 else position
        stop = min(found.values())
        yield start, stop
        if stop == found[b'"']:
            quote = body.find(b'"', stop + 1)
            stop = len(body) if quote < 0 else quote
        start = stop + 1
    raise HTTPException(400, f"The body has more than {_MAX_PARTS} quotes and braces. Send fewer values at once.")


def _structure_of(shape: tuple[int, ...]) -> bytes:
    """The brackets and commas of a list with this shape."""
    *outer, last = shape
    structure = b"[" + b"," * (last - 1) + b"]"
    for side in reversed(outer):
        structure = b"[" + ((structure + b",") * side)[:-1] + b"]"
    return structure


def _pieces(numbers: bytes | bytearray) -> Iterator[bytes | bytearray]:
    start = 0
    while start < len(numbers):
        comma = numbers.find(b",", start + _PIECE_BYTES)
        stop = len(numbers) if comma < 0 else comma
        if stop - start > _PIECE_BYTES + _MAX_NUMBER_BYTES:
            raise TensorError(f"A number has more than {_MAX_NUMBER_BYTES} digits.")
        yield numbers[start:stop]
        start = stop + 1


def _parsed(piece: bytes | bytearray) -> list[int | float]:
    """The structure of the whole list is right, but a number may still be on the wrong side of a bracket."""
    bare = piece.translate(None, _SPACE)
    if b",]" in bare or b"[," in bare or bare.startswith(b"]") or bare.endswith(b"["):  # [[1,]2] is like [[1,2]]
        raise _not_json(ValueError("a value is missing"))
    try:
        numbers: list[int | float] = json.loads(b"[" + piece.translate(_WITHOUT_BRACKETS) + b"]")
    except ValueError as error:
        raise _not_json(error) from None
    return numbers


def as_dtype(numbers: list[int | float], dtype: str) -> Array:
    """Rounds for a float type, where too large numbers become infinite. Raises TensorError for an integer type."""
    if np.issubdtype(dtype, np.floating):
        try:
            with np.errstate(over="ignore"):
                return np.asarray(np.asarray(numbers, np.float64), dtype)
        except OverflowError:
            raise TensorError("An integer is too large for a floating-point number.") from None
    values = np.asarray(numbers)
    if values.dtype.kind not in "iu" and values.size:
        fraction = next((number for number in numbers if isinstance(number, float)), None)
        raise TensorError(_out_of_type(numbers[0] if fraction is None else fraction, dtype))
    limits = np.iinfo(dtype)
    outside = values[(values < limits.min) | (values > limits.max)]
    if outside.size:
        raise TensorError(f"The value {outside[0]} is outside the range of {dtype}: {limits.min} to {limits.max}.")
    return values.astype(dtype)


def as_json(values: Array) -> str:
    """Every float is read back unchanged and never looks like an integer.

    It has as few digits as that takes, or if there are many, nine significant ones: that takes a quarter of the time.
    """
    if values.ndim > 1:
        return f"[{','.join(map(as_json, values))}]"
    if values.dtype.kind != "f":
        return json.dumps(values.tolist())
    if values.ndim == 0:
        return _float(values[()])
    if len(values) <= _MANY or values.dtype != np.float32:
        return f"[{','.join(map(_float, values))}]"
    bits = values.view(np.uint32).tolist()
    different = list(dict.fromkeys(bits))  # at most 256 for a quantized model
    if 2 * len(different) > len(bits):
        return f"[{','.join(_texts(values))}]"
    texts = dict(zip(different, _texts(np.array(different, np.uint32).view(np.float32)), strict=True))
    return f"[{','.join([texts[each] for each in bits])}]"


def _texts(values: Array) -> Iterable[str]:
    if len(values) <= _MANY or not np.isfinite(values).all():
        return map(_float, values)
    texts = ("%.9g," * len(values) % tuple(values.tolist())).split(",")[:-1]
    return [text if "." in text or "e" in text else f"{text}.0" for text in texts]


def _float(value: Any) -> str:
    if np.isfinite(value):
        return str(value)
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def kind_of(value: Any) -> str:
    """What a JSON value is, for a sentence."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "text", dict: "an object"}
    return kinds.get(type(value), "a list")


def _out_of_type(number: float, dtype: str) -> str:
    return f"The value {number!s:.40} is not of the type {dtype}."


def _not_a_number(text: bytes | bytearray, dtype: str) -> TensorError:
    word = re.search(rb"[A-Za-df-z_][\w.]*", text.replace(b"NaN", b"").replace(b"Infinity", b""))
    shown = word[0][:40].decode("ascii", "replace") if word else "a strange character"
    return TensorError(f"The tensor must consist of numbers of the type {dtype}, but contains {shown}.")


def _ragged() -> TensorError:
    return TensorError("The lists do not form a tensor: lists at the same level differ in length or depth.")


def _not_json(error: ValueError) -> HTTPException:
    return HTTPException(400, f"The body is not valid JSON: {getattr(error, 'msg', error)}.")
