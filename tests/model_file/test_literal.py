from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from agent.model_file.literal import parse_literal

CONSTANTS = (
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text() | st.floats(allow_nan=False, width=16)
)
VALUES = st.recursive(
    CONSTANTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 99), inner),
    max_leaves=8,
)


@given(VALUES)
def test_parse_literal_reads_what_python_prints(value: Any) -> None:
    assert (
        parse_literal(repr(value)) == value
        or "inf" in repr(value)
        or repr(value).count("[") + repr(value).count("{") > 8
    )


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "{'a': open('/etc/passwd')}",
        "[x for x in (1, 2)]",
        "1" + "+1" * 50_000,
        "-" * 50_000 + "1",
        "not " * 50_000 + "1",
        "1" + "()" * 50_000,
        "1" + "[1]" * 50_000,
        "[" * 50_000,
        "(" * 9 + ")" * 9,
        "'a' 'b'",
        "{'a': 1, **{}}",
        "{[]: 1}",
        "'" + "a" * (1 << 18) + "'",
        "(" + "1," * 50_000 + ")",
        "f'{1}'",
        "{'a'",
        "",
    ],
)
def test_parse_literal_reads_nothing_else(text: str) -> None:
    assert parse_literal(text) is None


def test_parse_literal_survives_deep_json() -> None:
    assert parse_literal("[" * 500_000 + "]" * 500_000) is None
