from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given, strategies as st

from agent.errors import ModelError
from agent.model_file.labels import count_from_one, parse_labels

if TYPE_CHECKING:
    from random import Random

NAMES = st.lists(
    st.text("abcé日 ,:01-'\"", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=12, unique=True
)
SEPARATORS = st.text(" \t:,", min_size=1, max_size=3)


@st.composite
def label_files(draw: st.DrawFn) -> list[str]:
    """Lines that are often, but not always, an index and a label."""
    count = draw(st.integers(1, 8))
    indices = draw(st.permutations(range(count)) | st.lists(st.integers(-1, count + 1), min_size=count, max_size=count))
    widths = st.integers(0, 3)
    names = st.text("ab 1:,", max_size=3).map(lambda text: f"n{text}".strip()) | st.sampled_from(["1", "0 a"])
    lines = [f"{index:0{draw(widths)}}{draw(SEPARATORS)}{draw(names)}" for index in indices]
    others = draw(st.lists(st.sampled_from(["", "cat", "7", "3 dogs", "0"]), max_size=1))
    return draw(st.permutations(lines + others))


def defined(lines: list[str]) -> tuple[str, ...] | None:
    """What the reference says about lines without commas and tabs in a header; None if the file is refused."""
    full = [line for line in lines if line]
    pairs = [(int(match[1]), match[2]) for line in full if (match := re.match(r"(-?[0-9]+)[ \t:,]+([^ \t:,].*)", line))]
    if len(pairs) == len(full) and 0 in dict(pairs):
        named = dict(pairs)
        return (
            tuple(named[i] for i in range(len(pairs))) if sorted(i for i, _ in pairs) == [*range(len(pairs))] else None
        )
    return tuple("\n".join(lines).rstrip("\n").split("\n")) if full else ()


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"cat\r\ndog\r\n\r\n", ("cat", "dog")),
        (b"\xef\xbb\xbfcat\n  dog  \n\n\n", ("cat", "dog")),
        ("Österreich\n日本".encode(), ("Österreich", "日本")),
        (b"0 cat\n1 dog\n", ("cat", "dog")),
        (b"0  cat, tabby\n1  dog\n", ("cat, tabby", "dog")),
        (b"0:cat\n1:dog\n", ("cat", "dog")),
        (b"0,cat\n1,dog", ("cat", "dog")),
        (b"0\tcat\n1\tdog", ("cat", "dog")),
        (b"0\n1\n2\n", ("0", "1", "2")),
        (b"00 cat\n01 dog\n", ("cat", "dog")),
        (b"1 cat\n2 dog\n", ("1 cat", "2 dog")),
        (b"0 cat\ndog\n", ("0 cat", "dog")),
        (b"7 up\n4 cheese pizza\n", ("7 up", "4 cheese pizza")),
        (b"cat\n\ndog\n", ("cat", "", "dog")),
        (b"", ()),
    ],
)
def test_label_files_of_all_formats_are_read(content: bytes, labels: tuple[str, ...]) -> None:
    assert parse_labels(content, where="m.txt") == labels


def test_label_file_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ModelError, match=r"m.txt is not UTF-8 text"):
        parse_labels(b"\xff\xfec\0a\0t\0", where="m.txt")


def test_number_with_thousands_of_digits_is_part_of_the_label() -> None:
    line = "1" * 5000 + " cat"
    assert parse_labels(line.encode(), where="m.txt") == (line,)


@given(label_files())
@example(["0 a", "1 b", "10 k", "2 c", "3 d", "4 e", "5 f", "6 g", "7 h", "8 i", "9 j"])
def test_label_file_is_read_as_the_definition_says(lines: list[str]) -> None:
    expected = defined(lines)
    content = "\n".join(lines).encode()
    if expected is None:
        with pytest.raises(ModelError, match=r"m\.txt, line [0-9]+: "):
            parse_labels(content, where="m.txt")
    else:
        assert parse_labels(content, where="m.txt") == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0 a\n1 b\n3 d\n", "m.txt, line 3: the index 3 is not one of 0 to 2, and no line has the index 2"),
        (b"0 a\n\n1 b\n1 c\n", "m.txt, line 4: line 3 already has the index 1"),
        (b"-1 none\n0 a\n1 b\n", "m.txt, line 1: the index -1 is not one of 0 to 2"),
        (b"0 a\n" + b"9" * 5000 + b" b\n", "m.txt, line 2: the index 999999999999 is not"),
    ],
)
def test_indexed_label_file_is_refused_when_an_index_is_missing_or_repeated(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        parse_labels(content, where="m.txt")


def test_labels_count_from_one_only_if_all_numbers_from_1_are_there() -> None:
    assert count_from_one(("2 b", "1 a"))
    assert not count_from_one(("1 a", "3 c"))
    assert not count_from_one(("1 cent", "cents"))
    assert not count_from_one(())


@given(NAMES, st.randoms())
def test_class_indices_are_read_in_the_order_of_their_indices(names: list[str], random: Random) -> None:
    indices = list(enumerate(names))
    random.shuffle(indices)
    for mapping in ({name: index for index, name in indices}, dict(indices)):
        for text in (json.dumps(mapping), json.dumps(mapping, indent=2), str(mapping), json.dumps(names)):
            assert parse_labels(text.encode(), where="m.txt") == tuple(names)


@given(NAMES, st.randoms(), st.sampled_from(",;\t"), st.sampled_from([1, -1]))
def test_table_with_a_header_is_read_in_the_order_of_its_indices(
    names: list[str], random: Random, delimiter: str, step: int
) -> None:
    assume(not all(map(str.isdigit, names)))  # it is not certain which of two columns of numbers has the labels
    rows = [(str(index), name) for index, name in enumerate(names)]
    random.shuffle(rows)
    text = io.StringIO()
    for row in [random.choice([("index", "label"), ("", "name"), ("Class ID", "Class Name")]), *rows]:
        csv.writer(text, delimiter=delimiter).writerow(row[::step])
    assert parse_labels(text.getvalue().encode(), where="m.txt") == tuple(names)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b'dog,1\n"cat, tabby",0\n', ("cat, tabby", "dog")),
        (b"1;dog\n0;cat\n", ("cat", "dog")),
        (b"digit 1\ndigit 0\n", ("digit 1", "digit 0")),
        (b"digit, 1\ndigit, 0\n", ("digit, 1", "digit, 0")),
        (b"[unknown]\n{other}\n", ("[unknown]", "{other}")),
        (b"index\nring\nthumb\n", ("index", "ring", "thumb")),
        (b"Boeing, Model\nAirbus, 320\nBoeing, 737\n", ("Boeing, Model", "Airbus, 320", "Boeing, 737")),
        (b'{"names": {"0": "cat", "1": "dog"}, "task": "classify"}', ("cat", "dog")),
    ],
)
def test_tables_and_brackets_are_recognized(content: bytes, labels: tuple[str, ...]) -> None:
    assert parse_labels(content, where="m.txt") == labels


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"cat": 1, "dog": 2}', "Keras' class_indices"),
        (b'{"cat": 0, "dog": 0}', "Keras' class_indices"),
        (b'{"0": ["n01440764", "tench"]}', "looks like a JSON object or a Python dict"),
        (b'{"cat": 0, "do', "looks like a JSON object or a Python dict"),
        (b'{"0": "cat", "1": "\\ud800"}', "looks like a JSON object or a Python dict"),
        (b"{'cat': __import__('os').getcwd()}", "looks like a JSON object or a Python dict"),
        (b"id,name\n1,cat\n2,dog\n", "is a CSV table with the header 'id,name'"),
        (b"index,label,name\n0,a,b\n1,c,d\n", "is a CSV table with the header 'index,label,name'"),
        (b"label\ncat\ndog\n", "is a CSV table with the header 'label'"),
        (b"id,species\n1,cat\n2,dog\n", "is a CSV table with the header 'id,species'"),
        (b"ClassId,SignName\n1,stop\n2,yield\n", "is a CSV table with the header 'ClassId,SignName'"),
        (b"index,label\n0,tench, Tinca tinca\n1,goldfish\n", "is a CSV table with the header 'index,label'"),
        (b"filename;label\na.jpg;cat\nb.jpg;dog\n", "is a CSV table with the header 'filename;label'"),
        (b"class\tcount\ncat\t10\ndog\t20\n", "is a CSV table with the header"),
        (b'[{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]', "is a list in JSON or Python"),
        (b"[[0, 'cat'], [1, 'dog']]", "is a list in JSON or Python"),
    ],
)
def test_other_mappings_and_tables_are_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        parse_labels(content, where="m.txt")
