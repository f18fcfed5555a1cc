from __future__ import annotations

import pytest

from agent.text import printable, printable_json, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("déjà vu, 写真 [red]", "déjà vu, 写真 [red]"),
        ("a\nb\tc\rd", "a b c d"),
        ("\x1b[31mred\x1b]0;title\x07", " [31mred ]0;title "),
        ("\ud800\u2028", "  "),
    ],
)
def test_printable_replaces_line_breaks_and_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text, instead="?").isprintable()


def test_printable_json_cleans_keys_and_values_and_drops_deeply_nested_values() -> None:
    assert printable_json({"a\n": ["\x07", 1, None, {"b": {"c": 2}}]}, depth=3) == {"a ": [" ", 1, None, {"b": None}]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one two\n three.", "one two three"),
        ("one two three four", "one two three (...)"),
        ("onetwothreefour", "onetwothreefou (...)"),
        ("", ""),
    ],
)
def test_shortened_ends_between_two_words(text: str, shown: str) -> None:
    assert shortened(text, 14) == shown
