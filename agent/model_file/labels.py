"""Labels: reads label files: a label per line, indexed lines, a mapping as JSON or Python prints it, a CSV table."""

from __future__ import annotations

import csv
import re
import reprlib
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError
from agent.model_file.literal import parse_literal
from agent.text import is_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDEXED = re.compile(r"(-?[0-9]+)[\s:,]+(\S.*)")
_MAPPING = re.compile(r"""\{\s*("[^"\n]*"|'[^'\n]*'|[0-9]+)\s*:""")
_MAX_DIGITS = 9  # of an index: int() refuses thousands of digits
_LABEL_HEAD = re.compile(r"(class|label|category|display)?_?names?|class(es)?|labels?|category|categories")
_HEAD = re.compile(rf"{_LABEL_HEAD.pattern}|(class|label|category)?_?(id|idx|index)")
_WAY_OUT = "Write one label per line, in the order of the outputs."


def parse_labels(content: bytes, *, where: str) -> tuple[str, ...]:
    """The labels in the order of the outputs; `where` names the file in errors. Raises ModelError.

    Lines of an index and a label count as such only if every line has an index and one index is 0. Blank lines at
    the end are ignored, and so are all blank lines between indexed ones.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError(f"{where} is not UTF-8 text. Save the labels as UTF-8, one per line.") from None
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return _of_literal(text.strip(), where) or _of_indexed_lines(lines, where) or _of_table(text, where) or tuple(lines)


def count_from_one(labels: Sequence[str]) -> bool:
    """Whether the labels begin with the numbers from 1 to their count, which then are part of the labels."""
    matches = [_INDEXED.fullmatch(label) for label in labels]
    numbers = [_number(match[1]) for match in matches if match]
    return len(numbers) == len(labels) > 0 and sorted(numbers) == list(range(1, len(labels) + 1))


def labels_of(value: Any) -> tuple[str, ...] | None:
    """The labels in a list of labels, {index: label} or {label: index}, or in the `names` of such a mapping.

    None for anything else, if the indices are not 0 to n - 1, each once, and if a label is not valid Unicode.
    """
    labels = _labels_of(value)
    return labels if labels is not None and all(map(is_unicode, labels)) else None


def _labels_of(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, dict) and isinstance(value.get("names"), dict | list):
        value = value["names"]
    if isinstance(value, list):
        return tuple(value) if value and all(isinstance(label, str) for label in value) else None
    if not isinstance(value, dict) or not value:
        return None
    if all(isinstance(index, int) and not isinstance(index, bool) for index in value.values()):
        return _in_order([(index, str(label)) for label, index in value.items()])
    if all(isinstance(label, str) and re.fullmatch("[0-9]{1,9}", str(index)) for index, label in value.items()):
        return _in_order([(int(index), label) for index, label in value.items()])
    return None


def _of_literal(text: str, where: str) -> tuple[str, ...] | None:
    """A mapping such as Keras' class_indices, or a list; other text that begins with a bracket is made of labels."""
    if not text.startswith(("{", "[")):
        return None
    value = parse_literal(text)
    labels = labels_of(value)
    if labels is None and isinstance(value, list):
        raise ModelError(f"{where} is a list in JSON or Python, but not one of labels alone. {_WAY_OUT}")
    if labels is None and _MAPPING.match(text):
        raise ModelError(
            f"{where} looks like a JSON object or a Python dict, but is not one of indices and labels: Keras' "
            f"class_indices or an index for each label, with the indices from 0 up, each once. {_WAY_OUT}"
        )
    return labels


def _of_indexed_lines(lines: Sequence[str], where: str) -> tuple[str, ...] | None:
    numbered = [(line, _INDEXED.fullmatch(text)) for line, text in enumerate(lines, 1) if text]
    matches = [(line, _number(match[1]), match) for line, match in numbered if match]
    if len(matches) < len(numbered) or not any(number == 0 for _, number, _ in matches):
        return None
    labels: dict[int, tuple[int, str]] = {}
    for line, number, match in matches:
        if not 0 <= number < len(matches):
            missing = min(set(range(len(matches))) - {number for _, number, _ in matches})
            raise ModelError(
                f"{where}, line {line}: the index {match[1][:12]} is not one of 0 to {len(matches) - 1}, and no line "
                f"has the index {missing}. Give each of the {len(matches)} labels its own index."
            )
        if number in labels:
            raise ModelError(
                f"{where}, line {line}: line {labels[number][0]} already has the index {number}. Give each of the "
                f"{len(matches)} labels its own index, from 0 to {len(matches) - 1}."
            )
        labels[number] = (line, match[2])
    return tuple(labels[number][1] for number in range(len(labels)))


def _of_table(text: str, where: str) -> tuple[str, ...] | None:
    """A CSV table of an index and a label: with a header, or with the label first."""
    for delimiter in ("\t", ";", ","):  # the last one also finds a header of one column
        rows = _rows(text, delimiter)
        is_regular = len({len(row) for row in rows}) == 1
        if is_regular and len(rows[0]) == 2:
            labels = _by_index_column(rows[1:]) or _by_index_column(rows)
            if labels is not None:
                return labels
        if rows and (len(rows[0]) > 1 or delimiter == ",") and _is_header(rows[0], is_regular=is_regular):
            raise ModelError(
                f"{where} is a CSV table with the header {reprlib.repr(delimiter.join(rows[0]))}, and its rows are not "
                f"an index from 0 up and a label. {_WAY_OUT} Leave out the header."
            )
    return None


def _is_header(cells: Sequence[str], *, is_regular: bool) -> bool:
    """One usual title is enough if all rows have the same number of several cells: labels may contain commas."""
    words = [cell.casefold().replace(" ", "_") for cell in cells]
    if len(words) == 1:
        return _LABEL_HEAD.fullmatch(words[0]) is not None
    return (any if is_regular else all)(map(_HEAD.fullmatch, words))


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """Empty if the text is not a table."""
    try:
        rows = list(csv.reader(filter(str.strip, text.splitlines()), delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        return []
    return [[cell.strip() for cell in row] for row in rows]


def _by_index_column(rows: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """The labels of at least two rows of which one column has the indices; None if that is not certain."""
    if len(rows) < 2:
        return None
    found = set()
    for indices, labels in (zip(*rows, strict=True), reversed([*zip(*rows, strict=True)])):
        if (
            all(re.fullmatch("[0-9]{1,9}", index) for index in indices)
            and all(labels)
            and len(set(labels)) == len(rows)
        ):
            found.add(_in_order([(int(index), label) for index, label in zip(indices, labels, strict=True)]))
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def _in_order(numbered: Sequence[tuple[int, str]]) -> tuple[str, ...] | None:
    """The labels in the order of their indices; None if these are not 0 to n - 1, each once."""
    by_index = dict(numbered)
    if len(by_index) != len(numbered) or sorted(by_index) != list(range(len(numbered))):
        return None
    return tuple(by_index[index] for index in range(len(numbered)))


def _number(digits: str) -> int:
    """-1 for a number that has too many digits for an index."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DIGITS else -1
