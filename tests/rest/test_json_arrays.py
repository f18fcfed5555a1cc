"""Lists of numbers in JSON: what is accepted, how numbers are read and written, and what hostile bodies cost."""

from __future__ import annotations

import json
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from agent.errors import TensorError
from agent.rest.json_arrays import NumberList, as_json, parsed, read_object


def read(text: str) -> Any:
    return read_object(text.encode())["a"]


def array(text: str, dtype: str = "float32") -> Any:
    numbers = read(f'{{"a": {text}}}')
    assert isinstance(numbers, NumberList)
    return numbers.array(dtype)


@pytest.mark.parametrize(
    "value",
    [[1, 2, 3], [[1, 2], [3, 4], [5, 6]], [[[1], [2]]], [[[[0.5, -1.25e2]]]], [7], [[7]], [[1, 2, 3]] * 5000],
)
def test_list_of_numbers_becomes_an_array_of_its_shape(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, separators=(",", ":"))):
        assert np.array_equal(array(text), np.asarray(value, np.float32))


def test_several_lists_are_found_next_to_text_objects_and_escapes() -> None:
    document = {
        "a]": [1, 2],
        "b": {"c[": [[3]], 'd"\\': "[4, 5]\\", "e\\\\": "{"},
        "f": [{"g": [6]}, "text", [7], {"h": "}"}],
        "i": "NaN",
    }
    read_back = read_object(json.dumps(document).encode())

    def plain(value: Any) -> Any:
        if isinstance(value, NumberList):
            return value.array("int64").tolist()
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, list) else value

    assert plain(read_back) == document


def test_float_list_may_mix_integers_and_fractions() -> None:
    assert array("[1, 2.0, 3, 5.003, 0.007, 0.0]").tolist() == np.array([1, 2, 3, 5.003, 0.007, 0], np.float32).tolist()
    assert array("[1.0, 2, 0.662, 0]", "float64").tolist() == [1, 2, 0.662, 0]


def test_integer_and_fraction_round_to_the_same_float() -> None:
    assert array("[1435774380]") == array("[1435774380.0]") == np.float32(1435774380)


def test_too_large_and_too_small_fractions_become_infinity_and_zero() -> None:
    assert array("[1.7976931348623157e308, -1.7976931348623157e308]").tolist() == [np.inf, -np.inf]
    small = array("[2.2250738585072014e-308, -2.2250738585072014e-308]")
    assert (small.tolist(), np.signbit(small).tolist()) == ([0, 0], [False, True])


def test_nan_and_infinity_are_numbers() -> None:
    assert np.array_equal(
        array("[NaN, Infinity, -Infinity, 1]"), np.array([np.nan, np.inf, -np.inf, 1], np.float32), equal_nan=True
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2.0]", "The value 2.0 is not of the type uint8."),
        ("[1e2]", "The value 100.0 is not of the type uint8."),
        ("[256]", "The value 256 is outside the range of uint8: 0 to 255."),
        ("[-1]", "The value -1 is outside the range of uint8: 0 to 255."),
        ("[18446744073709551616]", "The value 18446744073709551616 is not of the type uint8."),
        ("[NaN]", "The value nan is not of the type uint8."),
    ],
)
def test_integer_type_takes_only_its_integers(text: str, sentence: str) -> None:
    with pytest.raises(TensorError) as error:
        array(text, "uint8")
    assert str(error.value) == sentence


@pytest.mark.parametrize("word", ["true", "false", "null", "[true]", "e", "Nan"])
def test_list_of_other_values_is_refused(word: str) -> None:
    with pytest.raises((TensorError, HTTPException)):
        array(f"[[1, 2], {word}]" if word.startswith("[") else f"[1, {word}]")


@pytest.mark.parametrize(
    "text",
    [
        *("[[1, 2], [3]]", "[[1], [2, 3]]", "[1, [1]]", "[[1], 1]", "[[1, 2], [3, 4], [[5, 6]]]", "[[[1]], [2]]"),
        *("[[1], []]", "[[], []]", "[[1][2]]", "[[[1], [2]], [[3]]]"),
    ],
)
def test_ragged_list_is_refused(text: str) -> None:
    with pytest.raises(TensorError) as error:
        array(text)
    assert str(error.value).startswith(("The lists do not form a tensor", "A list in the tensor is empty"))


@pytest.mark.parametrize(
    "text",
    [
        *("[1, 2 3]", "[01]", "[+1]", "[.5]", "[1.]", "[1,]", "[,1]", "[--1]", "[[1]2, [3]]"),
        *("[[1,]2,[3,4]]", "[[1, ]2, [3, 4]]", "[[1,2],3[,4]]", "[[1,2],3[ ,4]]", "[[1,2],[3,]4]"),
    ],
)
def test_malformed_number_is_refused(text: str) -> None:
    with pytest.raises(HTTPException) as error:
        array(text)
    assert error.value.status_code == 400
    assert error.value.detail.startswith("The body is not valid JSON: ")


def test_comma_at_the_end_of_a_piece_is_refused() -> None:
    numbers = "1," * 40_000
    for text in (f"[{numbers}]", f"[{numbers},1]", f"[{numbers} ]", f"[[{numbers}]1]", f"[1[,{numbers}1]]"):
        with pytest.raises(HTTPException):
            array(text)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "The body is empty. Send a JSON object."),
        (" \n", "The body is empty. Send a JSON object."),
        ("instances = [1, 2]", "The body is not valid JSON: Expecting value."),
        ('{"a": 1', "The body is not valid JSON: Expecting ',' delimiter."),
        ('{"a', "The body is not valid JSON: Unterminated string starting at."),
        ('{"a": 1}x', "The body is not valid JSON: Extra data."),
        ("[1]", "The body is a list. Send a JSON object."),
        ("3", "The body is a number. Send a JSON object."),
        ("null", "The body is null. Send a JSON object."),
        ('{"a": NaN}', "NaN and Infinity are possible only in lists of numbers."),
        ('{"a": [1], "b": NaN, "c": [2]}', "NaN and Infinity are possible only in lists of numbers."),
        ('{"a": ' + "9" * 5000 + "}", "The body is not valid JSON: Exceeds the limit"),
        ("{" * 5000, "The body has more than 4096 quotes and braces. Send fewer values at once."),
        ('{"a": ' * 3000, "The body has more than 4096 quotes and braces. Send fewer values at once."),
        ("[" * 30_000, "The JSON is nested too deeply. Send a flatter document."),
        ("[" * 100_000, "The body has large lists that mix numbers with text or objects. Send one kind."),
        (
            '{"a": [' + "1," * 40_000 + '"x"]}',
            "The body has large lists that mix numbers with text or objects. Send one kind.",
        ),
    ],
)
def test_body_that_is_not_a_json_object_is_refused(body: str, sentence: str) -> None:
    with pytest.raises(HTTPException) as error:
        read_object(body.encode())
    assert error.value.status_code == 400
    assert error.value.detail.startswith(sentence)


def test_body_in_another_encoding_is_refused() -> None:
    with pytest.raises(HTTPException) as error:
        read_object('{"ä": 1}'.encode("latin-1"))
    assert error.value.detail == "The body is not UTF-8. Send JSON in UTF-8."
    assert read_object('\ufeff{"a": 1}'.encode()) == {"a": 1}


def test_deep_list_is_harmless_where_it_is_ignored_and_refused_where_it_is_read() -> None:
    deep = read_object(b'{"a": [1], "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")["deep"]
    with pytest.raises(TensorError) as error:
        deep.array("float32")
    assert str(error.value).startswith("A list is nested more than 8 levels deep.")


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [' + b"[]," * 2_600_000 + b"[]]}",
        b'{"a": [' + b"[[[1]]]," * 900_000 + b"[[[1]]]]}",
        b'{"a": ' + b"[" * 4_000_000 + b"]" * 4_000_000 + b"}",
        b'{"a": [' + b"true," * 1_600_000 + b"true]}",
        b'{"a": [' + b'"",' * 2_600_000 + b'""]}',
        b'{"a": [' + b"{}," * 2_600_000 + b"{}]}",
        b'{"a": [1' + b"0" * 8_000_000 + b"]}",
        b'{"a": "' + b'\\"' * 4_000_000 + b'"}',
        b"[1," * 2_600_000,
    ],
    ids=["empty", "nested", "deep", "true", "text", "objects", "digits", "escapes", "open"],
)
def test_hostile_body_of_8_mb_needs_little_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        numbers = read_object(body)["a"]
        if isinstance(numbers, NumberList) and len(numbers.shape) == 3:
            numbers.array("float32")
    except (TensorError, HTTPException):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3.5 * len(body)  # as Python objects they would need up to 25 times as much


def test_number_with_too_many_digits_is_refused() -> None:
    with pytest.raises(TensorError) as error:
        array(f"[1, 0.{'1' * 100_000}, 2]")
    assert str(error.value) == "A number has more than 1000 digits."


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([[1, 2], [3, 4]], np.int32), "[[1, 2],[3, 4]]"),
        (np.array([0.1, 0.2, 1 / 3], np.float32), "[0.1,0.2,0.33333334]"),
        (np.array([9e16, 999999, 0.5, 0.0003, 555557.5], np.float32), "[9e+16,999999.0,0.5,0.0003,555557.5]"),
        (np.array([3, -0.0, 3e-05, 1e20], np.float32), "[3.0,-0.0,3e-05,1e+20]"),
        (np.array([[np.nan, np.inf], [3, -np.inf]], np.float32), "[[NaN,Infinity],[3.0,-Infinity]]"),
        (np.float32(0.7), "0.7"),
        (np.float32(np.nan), "NaN"),
        (np.array([True, False], np.bool_), "[true, false]"),
        (np.int64(7), "7"),
        (np.zeros((0,), np.float32), "[]"),
        (np.zeros((0, 3), np.float32), "[]"),
    ],
)
def test_array_is_written_with_as_few_digits_as_its_type_needs(values: Any, text: str) -> None:
    assert as_json(values) == text


def test_every_written_float_is_read_back_unchanged() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 5000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    assert np.array_equal(array(as_json(values)), values)
    assert np.array_equal(np.float32(json.loads(as_json(values))), values)


def test_long_list_has_whole_numbers_with_a_fraction() -> None:
    text = as_json(np.array([0, 1, -2, 0.5, 3e9] * 50, np.float32))
    assert text.startswith("[0.0,1.0,-2.0,0.5,3")  # NumPy 1 and 2 write 3e9 differently
    assert json.loads(text) == [0, 1, -2, 0.5, 3e9] * 50


def test_long_list_with_equal_floats_is_written_like_a_short_one() -> None:
    values = np.tile(np.array([0.1, 0.0, -0.0, 3, 3e-05, np.nan, -np.inf], np.float32), 100)
    assert as_json(values) == f"[{','.join(['0.1,0.0,-0.0,3.0,3e-05,NaN,-Infinity'] * 100)}]"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "is_at_once"),
    [
        ('{"b64": "' + "A" * 200_000 + '"}', True),
        ('{"b64": "' + "A" * 300_000 + '"}', False),
        ('{"a": [' + "1," * 40_000 + "1]}", False),
        ('{"a": [' + "1," * 4_000 + "1]}", True),
    ],
    ids=["text", "long_text", "many_numbers", "some_numbers"],
)
async def test_json_is_parsed_on_the_event_loop_if_it_takes_little_time(body: str, is_at_once: bool) -> None:  # noqa: FBT001
    thread = await parsed(body.encode(), len(body), threading.get_ident)
    assert (thread == threading.get_ident()) == is_at_once
