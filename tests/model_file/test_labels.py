from __future__ import annotations

import pytest

from agent.errors import ModelError
from agent.model_file.labels import parse_labels


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
